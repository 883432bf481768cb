// Tasks over threads. A task must not depend on which thread runs it.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>

#include "core/thread_pool.hpp"

namespace sparseconv {

// Run run(task) for task in [0, tasks), handed out one by one in order. With one thread, and in a
// forked process whatever their number, no parallel region is entered. The first exception is
// thrown again.
template <class Run>
void parallel_tasks(std::int64_t tasks, int threads, Run&& run) {
  const int team = int(std::min<std::int64_t>(tasks, threads));
  if (team > 1 && !forked && !ThreadPool::busy()) {
    std::exception_ptr fault;
    std::mutex guard;
    std::atomic<std::int64_t> next(0);
    auto work = [&] {
      for (std::int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) {
        try {
          run(task);
        } catch (...) {
          const std::lock_guard<std::mutex> lock(guard);
          if (!fault) fault = std::current_exception();
        }
      }
    };
    ThreadPool::run(team - 1, work);
    if (fault) std::rethrow_exception(fault);
    return;
  }
  for (std::int64_t task = 0; task < tasks; ++task) run(task);
}

// Threads for work of so many nanoseconds: helpers that sleep come after some fifty microseconds, those
// that look out for work at once.
inline int worth_sharing(std::int64_t nanoseconds, int threads) {
  if (threads <= 1 || forked) return 1;
  return nanoseconds >= (ThreadPool::awake() ? 30 : 100) * 1000 ? threads : 1;
}

// Run first(task) for task in [0, before), then between() once, then, if that returned true,
// second(task) for task in [0, after): all in one parallel region, for to wake a thread twice takes longer
// than to wait for it here. The first exception is thrown again; then nothing of the second stage runs.
template <class First, class Between, class Second>
void parallel_stages(std::int64_t before, std::int64_t after, int threads, First&& first,
                     Between&& between, Second&& second) {
  enum : int { waits, runs, stops };
  std::atomic<std::int64_t> left(before);
  std::atomic<int> stage(waits);
  std::atomic<bool> failed(false);
  // whoever ends the first stage opens the second one, whatever happens
  const auto end_stage = [&] {
    struct Opens {
      std::atomic<int>& stage;
      int to = stops;
      ~Opens() { stage.store(to, std::memory_order_release); }
    } opens{stage};
    if (!failed.load(std::memory_order_relaxed) && between()) opens.to = runs;
  };
  if (before == 0) end_stage();
  parallel_tasks(before + after, threads, [&](std::int64_t task) {
    if (task < before) {
      std::exception_ptr fault;
      try {
        first(task);
      } catch (...) {
        fault = std::current_exception();
        failed.store(true, std::memory_order_relaxed);
      }
      if (left.fetch_sub(1, std::memory_order_acq_rel) == 1) end_stage();
      if (fault) std::rethrow_exception(fault);
      return;
    }
    // tasks are handed out in order, so those waited for are being run
    for (int tries = 0; stage.load(std::memory_order_acquire) == waits; ++tries)
      if (tries > 1000) std::this_thread::yield();
    if (stage.load(std::memory_order_relaxed) == runs) second(task - before);
  });
}

// Run run(begin, end) over [0, n) in pieces of `piece` items.
template <class Run>
void parallel_ranges(std::int64_t n, std::int64_t piece, int threads, Run&& run) {
  parallel_tasks((n + piece - 1) / piece, threads,
                 [&](std::int64_t task) { run(task * piece, std::min(n, (task + 1) * piece)); });
}

}  // namespace sparseconv
