// Threads that help the one that calls, and stay awake for a moment between two calls.
//
// A net is some hundred short parallel regions a pass, and a thread that sleeps takes some fifty
// microseconds to wake. So these look out for the next region for a while before they sleep, and give way
// to whoever wants their processor meanwhile. A region waits for nobody who has not begun: what a late
// helper would have done is done when it arrives.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#ifndef _WIN32
#include <csignal>
#include <pthread.h>
#endif

namespace sparseconv {

#ifdef _WIN32
constexpr bool forked = false;
#else
// Whether this process was forked off one that had the library loaded: threads do not follow a fork.
inline bool forked = false;
inline const int watching_forks = pthread_atfork(nullptr, nullptr, [] { forked = true; });
#endif

// A loop that waits runs this: the other thread of a core gets its units meanwhile.
inline void pause_briefly() {
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
  __asm__ __volatile__("yield");
#endif
}

class ThreadPool {
 public:
  // Whether the calling thread is in a region already: what it asks for then, it does alone.
  static bool busy() { return busy_; }

  // Whether there are helpers, none of them asleep.
  static bool awake() {
    const ThreadPool& pool = *mine().pool;
    return pool.threads_ > 0 && pool.asleep_.load(std::memory_order_relaxed) == 0;
  }

  // Call work() here and on up to `helpers` other threads, those that get here before this one is done;
  // return when all of them are. work must not throw.
  template <class Work>
  static void run(int helpers, Work& work) {
    Lease& lease = mine();
    busy_ = true;
    lease.pool->work_together(helpers, [](void* what) { (*static_cast<Work*>(what))(); }, &work);
    busy_ = false;
  }

 private:
  using Clock = std::chrono::steady_clock;
  // how long to look out for the next region: between two layers some tenths of this pass
  static constexpr std::chrono::microseconds watch{1000};

  // Every thread that calls has a pool to itself; when it ends another one takes it over. Pools are never
  // destroyed: their threads sleep until the process ends.
  struct Lease {
    ThreadPool* pool;
    Lease() : pool(take()) {}
    ~Lease() { give(pool); }
    Lease(const Lease&) = delete;
  };

  struct Idle {
    std::mutex guard;
    std::vector<ThreadPool*> pools;
  };

  static Idle& idle() {
    static Idle* const made = new Idle;
    return *made;
  }

  static ThreadPool* take() {
    Idle& all = idle();
    const std::lock_guard<std::mutex> lock(all.guard);
    if (all.pools.empty()) return new ThreadPool;
    ThreadPool* const pool = all.pools.back();
    all.pools.pop_back();
    return pool;
  }

  static void give(ThreadPool* pool) {
    if (forked) return;
    Idle& all = idle();
    const std::lock_guard<std::mutex> lock(all.guard);
    all.pools.push_back(pool);
  }

  static Lease& mine() {
    static thread_local Lease lease;
    return lease;
  }

  void work_together(int helpers, void (*call)(void*), void* what) {
    while (threads_ < helpers && add_thread()) ++threads_;
    call_ = call;
    what_ = what;
    gate_.store(std::uint64_t(helpers) << 32, std::memory_order_release);
    round_.fetch_add(1);
    if (asleep_.load() > 0) {
      { const std::lock_guard<std::mutex> lock(guard_); }
      for (int i = 0; i < helpers; ++i) wake_.notify_one();
    }
    call(what);
    // close it, and wait for those inside
    gate_.fetch_and(inside, std::memory_order_acq_rel);
    const auto begin = Clock::now();
    for (int tries = 1; (gate_.load(std::memory_order_acquire) & inside) != 0; ++tries) {
      pause_briefly();
      if (tries % 64 != 0) continue;
      std::this_thread::yield();
      if (Clock::now() - begin > std::chrono::milliseconds(2))
        std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

  // Join the region that is open; whether there was room.
  bool help() {
    std::uint64_t gate = gate_.load(std::memory_order_relaxed);
    do {
      if (gate >> 32 == 0) return false;
    } while (!gate_.compare_exchange_weak(gate, gate - place + 1, std::memory_order_acquire,
                                          std::memory_order_relaxed));
    call_(what_);
    gate_.fetch_sub(1, std::memory_order_release);
    return true;
  }

  void serve() {
    busy_ = true;
    std::uint32_t seen = 0;
    auto since = Clock::now();
    for (;;) {
      wait_for_other_than(seen, since);
      seen = round_.load();
      if (help()) since = Clock::now();
    }
  }

  void wait_for_other_than(std::uint32_t seen, Clock::time_point since) {
    do {
      for (int tries = 0; tries < 64; ++tries) {
        if (round_.load(std::memory_order_relaxed) != seen) return;
        pause_briefly();
      }
      std::this_thread::yield();
    } while (Clock::now() - since < watch);
    std::unique_lock<std::mutex> lock(guard_);
    asleep_.fetch_add(1);
    wake_.wait(lock, [&] { return round_.load() != seen; });
    asleep_.fetch_sub(1);
  }

  // Start one more thread, which takes no signals: those are for the program's own.
  bool add_thread() {
#ifndef _WIN32
    sigset_t all, usual;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &usual);
#endif
    bool added = true;
    try {
      std::thread([this] { serve(); }).detach();
    } catch (const std::system_error&) {
      added = false;
    }
#ifndef _WIN32
    pthread_sigmask(SIG_SETMASK, &usual, nullptr);
#endif
    return added;
  }

  static constexpr std::uint64_t place = std::uint64_t(1) << 32, inside = place - 1;

  static inline thread_local bool busy_ = false;
  // what to do; written while nobody is inside
  void (*call_)(void*) = nullptr;
  void* what_ = nullptr;
  int threads_ = 0;
  // places left in the region above, helpers inside it below
  alignas(64) std::atomic<std::uint64_t> gate_{0};
  // counts regions
  alignas(64) std::atomic<std::uint32_t> round_{0};
  std::atomic<int> asleep_{0};
  std::mutex guard_;
  std::condition_variable wake_;
};

}  // namespace sparseconv
