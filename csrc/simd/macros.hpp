// What compilers spell differently.
#pragma once

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define UNROLL _Pragma("GCC unroll 16")
#else
#define UNROLL
#endif
#if defined(_MSC_VER)
#define RESTRICT __restrict
#else
#define RESTRICT __restrict__
#endif
#if defined(__GNUC__) || defined(__clang__)
#define PREFETCH(address) __builtin_prefetch(address)
#define PREFETCH_FAR(address) __builtin_prefetch(address, 0, 2)
#else
#define PREFETCH(address) (void)(address)
#define PREFETCH_FAR(address) (void)(address)
#endif
// a function that does nothing but fetch counts as one without effect: a call of it may be left out
#if defined(__GNUC__) || defined(__clang__)
#define INLINED inline __attribute__((always_inline))
#else
#define INLINED inline
#endif
// loops of one function share its registers: one that is compiled apart keeps what it needs
#if defined(__GNUC__) || defined(__clang__)
#define APART __attribute__((noinline))
#else
#define APART
#endif
// a short copy must not become a call of memcpy or a string instruction, whose start costs more
#if defined(__GNUC__) || defined(__clang__)
#define KEEP_LOOP __asm__ volatile("" ::: "memory")
#else
#define KEEP_LOOP (void)0
#endif

// numbers fetched one by one are stored one by one: put together in a vector first, they take longer
#if defined(__GNUC__) || defined(__clang__)
#define SCALAR(value) __asm__("" : "+r"(value))
#else
#define SCALAR(value) (void)0
#endif
