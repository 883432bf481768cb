#include "kernels/norm.hpp"

#include <cmath>
#include <numeric>
#include <optional>
#include <vector>

#include "core/buffer.hpp"
#include "core/dtype.hpp"
#include "core/parallel.hpp"

namespace sparseconv {
namespace {

// How rows are cut. Nothing here depends on the number of threads, so sums do not either.
struct Cut {
  std::int64_t repeat;  // rows of a period, which is whole vectors and not too short
  std::int64_t period;  // numbers
  std::int64_t block;   // rows whose sums are kept in the type of sums
  std::int64_t task;    // rows whose sums are merged in double, one block after the other

  Cut(std::int64_t channels, std::int64_t element) {
    constexpr std::int64_t vector = 16, shortest = 128;
    repeat = vector / std::gcd(channels, vector);
    while (repeat * channels < shortest) repeat *= 2;
    period = repeat * channels;
    block = repeat * std::max<std::int64_t>(32 * 1024 / (period * element), 1);
    task = 8 * block;
  }
  std::int64_t tasks(std::int64_t rows) const { return (rows + task - 1) / task; }
  // threads for a pass over so many rows, at a seventh of a nanosecond a number
  int team(std::int64_t rows, int threads) const {
    return worth_sharing(rows * (period / repeat) / 7, threads);
  }
};

// A task that runs run(begin, end), last rows first: they were read last and may be cached, and the first
// ones are what the next op begins with.
template <class Run>
auto backwards(const Cut& cut, std::int64_t rows, Run&& run) {
  return [&cut, rows, run](std::int64_t task) {
    const std::int64_t begin = (cut.tasks(rows) - 1 - task) * cut.task;
    run(begin, std::min(rows, begin + cut.task));
  };
}

// Values per channel, repeated over a period.
template <class T>
struct Repeated {
  Buffer<T> values;
  template <class Value>
  Repeated(const Cut& cut, std::int64_t channels, Value&& value) : values(cut.period) {
    for (std::int64_t c = 0; c < channels; ++c) values[c] = T(value(c));
    for (std::int64_t i = channels; i < cut.period; ++i) values[i] = values[i - channels];
  }
  const T* data() const { return values.data(); }
};

template <class T>
struct Affine {
  Repeated<T> mean, scale, shift;
  Affine(const Cut& cut, std::int64_t channels, const Norm& norm)
      : mean(cut, channels, [&](std::int64_t c) { return norm.mean_of<T>(c); }),
        scale(cut, channels, [&](std::int64_t c) { return norm.scale_of<T>(c); }),
        shift(cut, channels, [&](std::int64_t c) { return norm.shift_of<T>(c); }) {}
};

// Number i of a period belongs to channel i modulo the channels; add them up in that order.
template <class T>
void fold(const Buffer<T>& period, std::int64_t channels, double* to) {
  std::fill_n(to, channels, 0.0);
  for (std::int64_t at = 0; at < period.size(); at += channels)
    for (std::int64_t c = 0; c < channels; ++c) to[c] += double(period[at + c]);
}

// Mean and biased variance of each channel, task by task and then merged.
template <class S, class T>
class Stats {
 public:
  Stats(const Loops<S, T>& loops, const Cut& cut, std::int64_t rows, std::int64_t channels,
        const S* x)
      : loops_(loops), cut_(cut), rows_(rows), channels_(channels), x_(x),
        found_(cut.tasks(rows) * channels * 2) {}

  void measure(std::int64_t task) {
    Buffer<T> middle(cut_.period), sum(cut_.period), squares(cut_.period);
    Buffer<double> one(2 * channels_);
    double* into = found_.data() + task * channels_ * 2;
    std::fill_n(into, 2 * channels_, 0.0);
    const std::int64_t begin = task * cut_.task, end = std::min(rows_, begin + cut_.task);
    for (std::int64_t row = begin; row < end; row += cut_.block) {
      const std::int64_t count = std::min(cut_.block, end - row);
      const S* block = x_ + row * channels_;
      // about the first row nothing cancels: it is one of those whose spread is wanted
      loops_.widen(block, middle.data(), channels_);
      for (std::int64_t i = channels_; i < cut_.period; ++i) middle[i] = middle[i - channels_];
      std::fill_n(sum.data(), cut_.period, T(0));
      std::fill_n(squares.data(), cut_.period, T(0));
      loops_.moments(block, count * channels_, cut_.period, middle.data(), sum.data(),
                     squares.data());
      fold(sum, channels_, one.data());
      fold(squares, channels_, one.data() + channels_);
      for (std::int64_t c = 0; c < channels_; ++c) {
        const double off = one[c] / double(count);
        one[channels_ + c] = std::max(one[channels_ + c] - one[c] * off, 0.0);
        one[c] = double(middle[c]) + off;
      }
      merge(into, double(row - begin), one.data(), double(count));
    }
  }

  void finish(T* mean, T* var) {
    for (std::int64_t task = 1; task < cut_.tasks(rows_); ++task)
      merge(found_.data(), double(task * cut_.task), found_.data() + task * channels_ * 2,
            double(std::min(cut_.task, rows_ - task * cut_.task)));
    for (std::int64_t c = 0; c < channels_; ++c) {
      mean[c] = rows_ > 0 ? T(found_[c]) : T(0);
      var[c] = rows_ > 0 ? T(found_[channels_ + c] / double(rows_)) : T(0);
    }
  }

 private:
  void merge(double* into, double have, const double* other, double more) const {
    const double share = more / (have + more);
    for (std::int64_t c = 0; c < channels_; ++c) {
      const double apart = other[c] - into[c];
      into[c] += apart * share;
      into[channels_ + c] += other[channels_ + c] + apart * apart * have * share;
    }
  }

  const Loops<S, T>& loops_;
  const Cut& cut_;
  std::int64_t rows_, channels_;
  const S* x_;
  Buffer<double> found_;  // of each task: means, then sums of squares about them
};

// y = relu((x - mean) scale + shift + residual) of rows [begin, end).
template <class S, class T>
void apply(const Loops<S, T>& loops, const Cut& cut, std::int64_t channels, const S* x,
           const Affine<T>& use, const S* residual, bool relu, S* y, std::int64_t begin,
           std::int64_t end) {
  loops.norm_rows(x + begin * channels, residual == nullptr ? nullptr : residual + begin * channels,
                  (end - begin) * channels, cut.period, use.mean.data(), use.scale.data(),
                  use.shift.data(), relu, y + begin * channels);
}

}  // namespace

void batch_norm(int dtype, std::int64_t rows, std::int64_t channels, const void* x, double eps,
                const void* weight, const void* bias, const void* residual, bool relu, void* mean,
                void* var, void* y, int threads) {
  if (channels == 0) return;
  visit_dtype(dtype, [&](const auto& loops, auto s, auto total) {
    using S = decltype(s);
    using T = decltype(total);
    const Cut cut(channels, sizeof(S));
    const S* from = static_cast<const S*>(x);
    Stats<S, T> stats(loops, cut, rows, channels, from);
    std::optional<Affine<T>> use;
    prefer_large_pages(y, rows * channels * std::int64_t(sizeof(S)));
    parallel_stages(
        cut.tasks(rows), cut.tasks(rows), cut.team(2 * rows, threads),
        [&](std::int64_t task) { stats.measure(task); },
        [&] {
          stats.finish(static_cast<T*>(mean), static_cast<T*>(var));
          use.emplace(cut, channels, Norm{mean, var, weight, bias, eps});
          return true;
        },
        backwards(cut, rows, [&](std::int64_t begin, std::int64_t end) {
          apply(loops, cut, channels, from, *use, static_cast<const S*>(residual), relu,
                static_cast<S*>(y), begin, end);
        }));
  });
}

void norm_apply(int dtype, std::int64_t rows, std::int64_t channels, const void* x,
                const Norm& norm, const void* residual, bool relu, void* y, int threads) {
  if (channels == 0) return;
  visit_dtype(dtype, [&](const auto& loops, auto s, auto total) {
    using S = decltype(s);
    const Cut cut(channels, sizeof(S));
    const Affine<decltype(total)> use(cut, channels, norm);
    prefer_large_pages(y, rows * channels * std::int64_t(sizeof(S)));
    parallel_tasks(cut.tasks(rows), cut.team(rows, threads),
                   backwards(cut, rows, [&](std::int64_t begin, std::int64_t end) {
                     apply(loops, cut, channels, static_cast<const S*>(x), use,
                           static_cast<const S*>(residual), relu, static_cast<S*>(y), begin, end);
                   }));
  });
}

void norm_grad(int dtype, std::int64_t rows, std::int64_t channels, const void* g, const void* x,
               const void* y, const Norm& norm, bool relu, bool batch, void* grad_x,
               void* grad_weight, void* grad_bias, void* grad_residual, int threads) {
  if (channels == 0) return;
  visit_dtype(dtype, [&](const auto& loops, auto s, auto total) {
    using S = decltype(s);
    using T = decltype(total);
    const Cut cut(channels, sizeof(S));
    const Affine<T> use(cut, channels, norm);
    const S* from = static_cast<const S*>(x);
    const S* grad = static_cast<const S*>(g);
    const S* out = static_cast<const S*>(y);
    S* masked = static_cast<S*>(grad_residual);
    S* to = static_cast<S*>(grad_x);
    const std::int64_t bytes = rows * channels * std::int64_t(sizeof(S));
    prefer_large_pages(to, bytes);
    if (out != nullptr) prefer_large_pages(masked, bytes);
    // of each task: sums of the gradient, then of its products with x - mean
    Buffer<double> found(cut.tasks(rows) * channels * 2);
    const auto measure = [&](std::int64_t task) {
      Buffer<T> sum(cut.period), dot(cut.period);
      Buffer<double> one(channels);
      double* into = found.data() + task * channels * 2;
      std::fill_n(into, 2 * channels, 0.0);
      const std::int64_t begin = task * cut.task, end = std::min(rows, begin + cut.task);
      for (std::int64_t row = begin; row < end; row += cut.block) {
        const std::int64_t first = row * channels;
        std::fill_n(sum.data(), cut.period, T(0));
        std::fill_n(dot.data(), cut.period, T(0));
        loops.norm_sums(grad + first, from + first, out == nullptr ? nullptr : out + first,
                        std::min(cut.block, end - row) * channels, cut.period, use.mean.data(),
                        use.scale.data(), use.shift.data(), relu,
                        out == nullptr ? nullptr : masked + first, sum.data(), dot.data());
        fold(sum, channels, one.data());
        for (std::int64_t c = 0; c < channels; ++c) into[c] += one[c];
        fold(dot, channels, one.data());
        for (std::int64_t c = 0; c < channels; ++c) into[channels + c] += one[c];
      }
    };
    std::optional<Repeated<T>> less, slope;
    const auto finish = [&] {
      std::vector<double> sums(2 * channels), precision(channels);
      for (std::int64_t task = 0; task < cut.tasks(rows); ++task)
        for (std::int64_t c = 0; c < 2 * channels; ++c) sums[c] += found[task * channels * 2 + c];
      for (std::int64_t c = 0; c < channels; ++c) {
        precision[c] = 1 / std::sqrt(double(static_cast<const T*>(norm.var)[c]) + norm.eps);
        static_cast<T*>(grad_bias)[c] = T(sums[c]);
        static_cast<T*>(grad_weight)[c] = T(sums[channels + c] * precision[c]);
      }
      const double share = batch && rows > 0 ? 1 / double(rows) : 0.0;
      less.emplace(cut, channels, [&](std::int64_t c) { return sums[c] * share; });
      slope.emplace(cut, channels, [&](std::int64_t c) {
        return sums[channels + c] * precision[c] * precision[c] * share;
      });
      return true;
    };
    // what a residual's mask let through is written already
    const S* let = out == nullptr ? grad : masked;
    parallel_stages(cut.tasks(rows), cut.tasks(rows), cut.team(2 * rows, threads), measure, finish,
                    backwards(cut, rows, [&](std::int64_t begin, std::int64_t end) {
                      const std::int64_t first = begin * channels;
                      loops.norm_grad_rows(let + first, from + first, (end - begin) * channels,
                                           cut.period, use.mean.data(), use.scale.data(),
                                           use.shift.data(), relu && out == nullptr, less->data(),
                                           slope->data(), to + first);
                    }));
  });
}

}  // namespace sparseconv
