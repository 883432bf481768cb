// Tasks over threads. A task must not depend on which thread runs it.
#pragma once
#include <algorithm>
#include <cstdint>
#include <exception>
#include <mutex>

#ifdef _OPENMP
#include <omp.h>
#ifndef _WIN32
#include <pthread.h>
#endif
#endif

namespace sparseconv {

#ifdef _OPENMP
#ifdef _WIN32
constexpr bool forked = false;
#else
// Whether this process was forked off one that had the library loaded. The threads of an OpenMP
// runtime do not follow a fork, and some runtimes wait for them for ever.
inline bool forked = false;
inline const int watching_forks = pthread_atfork(nullptr, nullptr, [] { forked = true; });
#endif
#endif

// Run run(task) for task in [0, tasks), handed out one by one in order. With one thread, and in a
// forked process whatever their number, no parallel region is entered. The first exception is
// thrown again.
template <class Run>
void parallel_tasks(std::int64_t tasks, int threads, Run&& run) {
#ifdef _OPENMP
  if (threads > 1 && tasks > 1 && !forked) {
    std::exception_ptr fault;
    std::mutex guard;
    const int team = int(std::min<std::int64_t>(tasks, threads));
#pragma omp parallel for schedule(dynamic, 1) num_threads(team)
    for (std::int64_t task = 0; task < tasks; ++task) {
      try {
        run(task);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(guard);
        if (!fault) fault = std::current_exception();
      }
    }
    if (fault) std::rethrow_exception(fault);
    return;
  }
#endif
  (void)threads;
  for (std::int64_t task = 0; task < tasks; ++task) run(task);
}

// Threads for work of so many nanoseconds: to wake one that sleeps takes some fifty microseconds, for
// which all others wait at the end.
inline int worth_sharing(std::int64_t nanoseconds, int threads) {
  return nanoseconds >= 100 * 1000 ? threads : 1;
}

// Run run(begin, end) over [0, n) in pieces of `piece` items.
template <class Run>
void parallel_ranges(std::int64_t n, std::int64_t piece, int threads, Run&& run) {
  parallel_tasks((n + piece - 1) / piece, threads,
                 [&](std::int64_t task) { run(task * piece, std::min(n, (task + 1) * piece)); });
}

}  // namespace sparseconv
