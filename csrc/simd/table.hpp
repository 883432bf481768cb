// The inner loops as a table of function pointers, one table per instruction set.
//
// Storage types: double, float, Bf16, F16; sums are kept in double for double, else in float.
// Row numbers are int32 and in range; the callers check them. Nothing from std but fixed-width
// integers may be included here or below: see ../README.md, "One rule".
#pragma once
#include <cstddef>
#include <cstdint>

namespace sparseconv {

struct Bf16 {
  std::uint16_t bits;
};
struct F16 {
  std::uint16_t bits;
};

// The pairs of a block of output rows, tap by tap: those of tap t begin at from[t] and end at end[t]
// or before the first whose row is not among `rows` rows from `first` on. next[t] <- where they ended.
// Of the pairs [soon, soon + soon_count) of the next block what lies row by row is fetched meanwhile.
struct TapWalk {
  const std::int32_t* in;
  const std::int32_t* out;
  const std::int64_t* from;
  const std::int64_t* end;
  std::int64_t* next;
  std::int64_t taps, first, rows;
  std::int64_t soon, soon_count;
  std::int64_t count;  // of all pairs, in all blocks
};

// The taps of one row that have a pair, ascending, and the rows they pair it with.
struct RowTaps {
  const std::int32_t* tap;    // [count]
  const std::int32_t* other;  // [count]
  std::int64_t count;
};

// How two numbers go together: -(a - b)^2, -|a - b|, a b.
enum class Likeness : int { squared = 0, distance = 1, product = 2 };
template <Likeness kind>
struct Liked {
  static constexpr Likeness value = kind;
};

// Logits of pairs: prior[tap] + likeness, group by group.
template <class T>
struct Relation {
  const T* prior;  // [taps, groups]
  std::int64_t groups;
  Likeness kind;
};

// The pairs of a few output rows, row by row: those of the r-th are [starts[r], starts[r + 1]), the low
// half of each an input row, the high half a tap. row_list_spare more than all may be read.
constexpr std::int64_t row_list_spare = 64;
struct RowWalk {
  const std::int64_t* starts;
  const std::uint64_t* pairs;
  std::int64_t rows;
};

// A dimension-wise convolution. A row of results has `branches` numbers a channel, channel by channel,
// or where they are joined one: start[c] + sum of join[branch][c] times them.
template <class T>
struct PlaneShape {
  // wide: channels rounded up to whole vectors; pad: whole vectors, no shift is farther
  std::int64_t channels, wide, pad, branches;
  std::int64_t channel;  // the branch with a kernel a channel, or -1
  const T* by_channel;   // [taps][wide]
  const T* join;         // [branches][wide], or null
  const T* start;        // [wide], or null
  std::int64_t shifts;
  const std::int64_t* shift;  // [shifts]
  std::int64_t banks;
  // kernels of planes: of their branch, [planes][taps of a plane][shifts]
  struct Bank {
    std::int64_t branch, taps;
    const T* kernels;
    const std::int32_t* plane;  // of every row of results, 4 numbers apart
    const std::int32_t* tap;    // [taps]: which of a plane's, or -1
  } bank[3];
};

// Pairs of a row that a dimension-wise convolution takes at a time: as many rows may be copied.
constexpr std::int64_t batch_pairs = 32;

// What a call to come reads besides rows: pieces of memory, `pitch` bytes apart.
struct Later {
  const char* first = nullptr;
  std::int64_t pitch = 0, bytes = 0, pieces = 0;
};

// Loops for storage type S and sum type T.
template <class S, class T>
struct Loops {
  std::int64_t lanes = 0;  // numbers of type T in a vector

  // What a thread does before and after gather_gemm and gather_outer; null for nothing.
  void (*begin)() = nullptr;
  void (*end)() = nullptr;

  // Floats one packed block of `channels` x `width` takes: width is rounded up to whole vectors.
  std::int64_t (*padded)(std::int64_t width);
  // channels that share one of them: a block then needs no more than its half
  std::int64_t shared_by = 1;

  // packed <- w[c * stride_c + d * stride_d], c < channels, d < width, in column panels.
  void (*pack)(const S* w, std::int64_t stride_c, std::int64_t stride_d, std::int64_t channels,
               std::int64_t width, T* packed);
  // The same of weights in the type of sums, rounded as by narrow or, where products take denormals for
  // zero, to zero. Null where rounding first is as good.
  void (*pack_wide)(const T* w, std::int64_t stride_c, std::int64_t stride_d,
                    std::int64_t channels, std::int64_t width, T* packed) = nullptr;

  // y[out[p] - first] += x[in[p]] W for pairs in order; a repeated output row is right.
  // Where start [padded(width)] is given, rows are written instead: start + x[in[p]] W. Not for 0
  // channels.
  // y has padded(width) columns that may be written and row pitch ldy. Rows next[0 .. next_n) are
  // those of the call to come, `later` what else it reads: sets may fetch both meanwhile.
  void (*gather_gemm)(const S* x, std::int64_t ldx, std::int64_t channels, const T* packed,
                      std::int64_t width, const std::int32_t* in, const std::int32_t* out,
                      std::int64_t n, std::int64_t first, T* y, std::int64_t ldy, const T* start,
                      const std::int32_t* next, std::int64_t next_n, const Later& later);

  // acc[c][d] += sum over pairs of x[in[p]][c] g[out[p]][d], or where nothing has `begun` is set to it;
  // acc is [channels][padded(width)] with row pitch lda. channels and width are at most outer_limit. The
  // sum is cut in chunks of a fixed number of pairs, so an element does not depend on how the caller
  // splits channels and width. Rows of the next_n pairs of the call to come are fetched meanwhile. With
  // `past`, where nothing adds to acc later, sets may write it past the caches.
  void (*gather_outer)(const S* x, std::int64_t ldx, std::int64_t channels, const S* g,
                       std::int64_t ldg, std::int64_t width, const std::int32_t* in,
                       const std::int32_t* out, std::int64_t n, const std::int32_t* next_in,
                       const std::int32_t* next_out, std::int64_t next_n, bool begun, T* acc,
                       std::int64_t lda, bool past);

  // Columns of sums that the loops below need for a row; the results are the first `channels`.
  std::int64_t (*tap_width)(std::int64_t channels, std::int64_t groups);

  // to[r][c] <- start[c] + sum over the pairs (i, t) of row r of w[t][c] x[i][c], r below walk.rows: a
  // depthwise convolution. start null for zeros; w has row pitch ldw, `to` ld; `past`: past the
  // caches, where the processor can.
  void (*scale_rows)(const S* x, std::int64_t ldx, std::int64_t channels, const T* w,
                     std::int64_t ldw, const RowWalk& walk, const T* start, T* to, std::int64_t ld,
                     bool past);

  // sums[r][c] <- sum over the taps t and pairs p of w[weight_rows[p]][t][c / (channels / groups)]
  // x[in[p]][c]; w is [.][taps][groups].
  void (*weigh_taps)(const S* x, std::int64_t ldx, std::int64_t channels, std::int64_t groups,
                     const S* w, const std::int32_t* weight_rows, const TapWalk& walk, T* sums,
                     std::int64_t ld);

  // acc[t][c] += sum over rows r and the pairs (i, t) of each of x[i][c] g[r][c], acc being [taps][ld]
  // and as wide as tap_width(channels, channels): the weight gradient of those rows. When all were
  // added, settle_taps leaves the results in the first `channels` columns.
  void (*multiply_rows)(const S* x, std::int64_t ldx, const S* g, std::int64_t ldg,
                        std::int64_t channels, const RowWalk& walk, T* acc, std::int64_t ld);
  void (*settle_taps)(std::int64_t channels, std::int64_t taps, T* acc, std::int64_t ld);

  // to [rows][n] <- sums, rounded; `past`: past the caches, where the processor can.
  void (*put_rows)(const T* sums, std::int64_t ld, std::int64_t rows, std::int64_t n, S* to,
                   bool past);

  // e[r][t][g] += sum over the pairs (i, first + r) of tap t, channels c of group g, of
  // a[i][c] b[first + r][c].
  void (*dot_taps)(const S* a, const S* b, std::int64_t channels, std::int64_t groups,
                   const TapWalk& walk, T* e);

  // v [count][groups] <- the logits of a row whose own number is `own` [groups].
  void (*relate_row)(const Relation<T>& of, const T* own, const T* others, const RowTaps& row,
                     T* v);

  // v <- its softmax along count > 0; top and total [groups]: the largest, and the sum of
  // exponentials beside it.
  void (*softmax_row)(std::int64_t count, std::int64_t groups, T* v, T* top, T* total);

  // v <- exp(v - less), less being [groups], or rows of the others.
  void (*exp_row)(const RowTaps& row, std::int64_t groups, const T* less, bool by_other, T* v);

  // mean[g] <- sum of w[s][g] e[tap[s]][g].
  void (*mean_row)(const RowTaps& row, std::int64_t groups, const T* w, const T* e, T* mean);

  // Where weights w [count][groups] have gradients e [taps][groups] and means <w, e>, which are
  // [groups] or rows of the others: slope [groups] <- the gradient of `own`; to_prior [taps][groups],
  // where not null, += that of logits.
  void (*slope_row)(const Relation<T>& of, const T* own, const T* others, const RowTaps& row,
                    const T* w, const T* e, const T* means, bool by_other, T* slope, T* to_prior);

  // Groups of 2 or 4 input channels and one output channel (join), or the reverse; their number is
  // one of whole vectors. sums[r][d] += sum over the taps t and pairs (i, first + r), channels c of
  // d's group, of w x[i][c]; w is [taps][groups][per_group].
  void (*narrow_taps)(const S* x, std::int64_t groups, int per_group, bool join, const T* w,
                      const TapWalk& walk, T* sums);
  // acc += the gradient of w, of those rows.
  void (*multiply_narrow)(const S* x, const S* g, std::int64_t groups, int per_group, bool join,
                          const TapWalk& walk, T* acc);

  // Dimension-wise convolution of the rows of a walk, which begin at `first`, its adjoint and the
  // parts those rows have in the gradients of the kernels: see planes.inl.hpp. In the adjoint pairs
  // name rows of g.
  void (*sum_planes)(const S* x, const PlaneShape<T>& shape, const RowWalk& walk,
                     std::int64_t first, T* scratch, T* lines);
  void (*sum_planes_back)(const S* g, const PlaneShape<T>& shape, const RowWalk& walk, T* scratch,
                          T* lines);
  // Where branches are joined; to_join [branches][wide] += the gradient of join.
  void (*sum_joined_back)(const S* g, const S* x, const PlaneShape<T>& shape, const RowWalk& walk,
                          std::int64_t first, T* scratch, T* lines, T* to_join);
  void (*multiply_planes)(const S* x, const S* g, const PlaneShape<T>& shape, const RowWalk& walk,
                          std::int64_t first, T* scratch, T* by_channel, T* const* bank_sums);

  // y[out[p] - first] += weights[p] x[in[p]], weights 1 where null.
  void (*add_rows)(const S* x, std::int64_t ldx, std::int64_t channels, const S* weights,
                   const std::int32_t* in, const std::int32_t* out, std::int64_t n,
                   std::int64_t first, T* y, std::int64_t ldy);

  // dots[p] = <a[a_rows[p]], b[b_rows[p]]>.
  void (*dot_rows)(const S* a, const S* b, std::int64_t channels, const std::int32_t* a_rows,
                   const std::int32_t* b_rows, std::int64_t n, S* dots);

  // best and winner of output row out[p] - first are raised by x[in[p]]: NaN wins over numbers,
  // ties go to the lowest input row. A first winner below 0 means that the row has none yet and
  // nothing of it was written.
  void (*max_rows)(const S* x, std::int64_t ldx, std::int64_t channels, const std::int32_t* in,
                   const std::int32_t* out, std::int64_t n, std::int64_t first, T* best,
                   std::int64_t ldb, std::int32_t* winner, std::int64_t ldw);

  // to[r] <- sums[r], (sums[r] - mean) scale + shift where these are not null, plus other[r] where that is
  // not, then max(0, that) where relu is set, rounded; NaN stays. `to` may be the sums, which are of no use
  // afterwards.
  void (*finish_rows)(T* sums, std::int64_t ld, const T* mean, const T* scale, const T* shift,
                      const S* other, std::int64_t ldo, std::int64_t rows, std::int64_t n,
                      bool relu, S* to, std::int64_t ldt);

  // sums[r][0 .. n) += other rows from[r], divided by counts[from[r]] where counts are given; the `more`
  // columns that follow there go to behind[r].
  void (*lift_rows)(const S* others, std::int64_t ldo, const std::int32_t* from,
                    const std::int64_t* counts, std::int64_t rows, std::int64_t n,
                    std::int64_t more, T* sums, std::int64_t ld, S* behind, std::int64_t ldb);

  // Batch norm. n numbers of whole dense rows; values per channel repeat over `period` numbers,
  // itself whole rows. sum += x - middle, squares += (x - middle)^2, number by number of a period.
  void (*moments)(const S* x, std::int64_t n, std::int64_t period, const T* middle, T* sum,
                  T* squares);

  // y = (x - mean) scale + shift + other, clipped below at 0 where relu; other may be null.
  void (*norm_rows)(const S* x, const S* other, std::int64_t n, std::int64_t period, const T* mean,
                    const T* scale, const T* shift, bool relu, S* y);

  // sum += v, dot += v (x - mean), v being g where the output of norm_rows was above 0, else 0
  // (without relu: g). Where y is not null it is that output, and masked <- v.
  void (*norm_sums)(const S* g, const S* x, const S* y, std::int64_t n, std::int64_t period,
                    const T* mean, const T* scale, const T* shift, bool relu, S* masked, T* sum,
                    T* dot);

  // grad_x = scale (v - less - (x - mean) slope), the mask of v made of x again.
  void (*norm_grad_rows)(const S* g, const S* x, std::int64_t n, std::int64_t period,
                         const T* mean, const T* scale, const T* shift, bool relu, const T* less,
                         const T* slope, S* grad_x);

  // Conversions: narrow rounds to nearest even.
  void (*widen)(const S* from, T* to, std::int64_t n);
  void (*narrow)(const T* from, S* to, std::int64_t n);
};

// The nodes of one level of a pyramid of halved lattices: their children, and their neighbours. The
// children of a node follow one another in the level below, by octant.
struct SiteTree {
  // [nodes] low 32 bits: the first child; then 8 bits: octants that have one; then 3 bits an octant:
  // children before its own. Fifteen more may be read.
  const std::uint64_t* families;
  // [nodes] low 27 bits: taps that have a neighbour; above: where these are in the list
  const std::uint64_t* words;
  const std::int32_t* list;
};

// How 32-bit keys in Z-order are made of sites, see core/zkey.hpp: four bits of a coordinate at a
// time, counted from `base`, are spread to their places.
struct ZSpread {
  std::uint32_t base[4];  // of batch, x, y, z
  int batch_bit;
  int chunks;  // of four bits
  alignas(64) std::uint32_t of[3][8][16];
};

// Loops over sites: numbers of rows, no features.
struct SiteLoops {
  // The smallest and largest batch, x, y, z of n sites [n, 4], n > 0.
  void (*box)(const std::int32_t* sites, std::int64_t n, std::int32_t* low, std::int32_t* high);

  // keys[i] of sites [begin, end). Returns how many are below the one before, the first apart. Null
  // where nothing is faster than one after the other.
  std::int64_t (*z_keys)(const ZSpread& spread, const std::int32_t* sites, std::int64_t begin,
                         std::int64_t end, std::uint32_t* keys);

  // counts[level] = keys that differ from the one before in bits[level] or a higher bit, for up to
  // 32 levels; no bit is beyond 31.
  void (*count_steps)(const std::uint32_t* keys, std::int64_t n, const int* bits, int levels,
                      std::int64_t* counts);

  // Families and keys of the parents of n > 0 ascending keys whose lowest three bits are the octant;
  // sixteen more of each may be written. Returns how many there are. Null where nothing is faster
  // than one after the other.
  std::int64_t (*gather_families)(const std::uint32_t* keys, std::int64_t n,
                                  std::uint64_t* families, std::uint32_t* parents);

  // Words and lists of the children of nodes [begin, end): child c is written to words[c] and its
  // neighbours are children; or, where rows [children] is given, all are named by their rows.
  // Lists begin at `place`; 32 numbers more than they take may be written. counts[t] += children
  // that have a neighbour at tap t. Returns where lists end.
  std::int64_t (*neighbour_lists)(const SiteTree& tree, std::int64_t begin, std::int64_t end,
                                  const std::int32_t* rows, std::uint64_t* words,
                                  std::int32_t* list, std::int64_t place, std::int64_t* counts);

  // counts[t] = rows in [begin, end) that have tap t, or nodes that have a child in octant t.
  void (*count_lists)(const std::uint64_t* words, std::int64_t begin, std::int64_t end,
                      std::int64_t* counts);
  void (*count_kids)(const SiteTree& tree, std::int64_t begin, std::int64_t end,
                     std::int64_t* counts);

  // Append (neighbour, row) of rows [begin, end), or (child, node) of nodes, to the pairs of each
  // tap, from at[t] on, which moves to stop[t]; nothing is written from stop[t] on. 32 numbers
  // behind lists may be read. Children are named by their rows where these are given.
  void (*pairs_of_lists)(const std::uint64_t* words, const std::int32_t* list, std::int64_t begin,
                         std::int64_t end, std::int64_t* at, const std::int64_t* stop,
                         std::int32_t* in, std::int32_t* out);
  void (*pairs_of_kids)(const SiteTree& tree, const std::int32_t* rows, std::int64_t begin,
                        std::int64_t end, std::int64_t* at, const std::int64_t* stop,
                        std::int32_t* in, std::int32_t* out);

  // halved[i] = the site [4] of the parent whose first child families[i] names: half of that child's,
  // rounded down. Children are named by their rows where these are given.
  void (*halve_sites)(const std::int32_t* sites, const std::uint64_t* families,
                      const std::int32_t* rows, std::int64_t begin, std::int64_t end,
                      std::int32_t* halved);
};

// Cells about which a row samples, [side, side, side] rows or -1, z fastest.
constexpr int window_side = 12;

// The cells of one row's positions, i = tap * groups + group.
template <class T>
struct CellRow {
  std::int64_t count;
  const std::int32_t* place;   // [count]: of the lower corner in the window, or -2 - f
  const T* fraction;           // [3, count]
  const T* scale;              // [count], null for ones
  const std::int32_t* window;  // [side^3] rows
  const std::int32_t* far;     // [f, 8] rows of the corners of other cells
};

// Active corners with their weights; every array has room for 8 more than are listed.
template <class T>
struct CornerList {
  std::int32_t* rows;
  T* shares;
  std::int32_t* codes;  // corner * count + cell
};

// Loops over samples between sites, for sums of type T.
template <class T>
struct SampleLoops {
  // place and fraction of positions [n, 3]; place is -1 where the cell does not lie in the window
  // that begins at `origin`; returns whether all do.
  bool (*cells_f32)(const float* positions, std::int64_t n, const std::int32_t* origin,
                    std::int32_t* place, T* fraction);
  bool (*cells_f64)(const double* positions, std::int64_t n, const std::int32_t* origin,
                    std::int32_t* place, T* fraction);

  // Append the active corners of cells first, first + step, ...; those of the j-th of them begin at
  // begin[j], the last ends at begin[count], which is returned. Without `every` corners of weight 0
  // and the codes are left out.
  std::int64_t (*corners)(const CellRow<T>& cells, std::int64_t first, std::int64_t step,
                          std::int64_t count, bool every, std::int32_t* begin,
                          const CornerList<T>& list, std::int64_t used);

  // y = sum of shares[p] x[rows[p]].
  void (*sum_list)(const T* x, std::int64_t ldx, std::int64_t width, const std::int32_t* rows,
                   const T* shares, std::int64_t n, T* y);

  // The lists of rows some[j], j < count, those of row r from begin[r * step] up to begin[r * step +
  // 1]; none is longer than eight, and eight numbers behind where one begins may be read.
  //
  // y[j] = sum over the list of shares x[rows].
  void (*sum_lists)(const T* x, std::int64_t ldx, std::int64_t width, const CornerList<T>& list,
                    const std::int32_t* begin, std::int64_t step, const std::int32_t* some,
                    std::int64_t count, T* y, std::int64_t ldy);
  // Lists one after the other, `with` naming j; returns their length. Eight more are written.
  std::int64_t (*join_lists)(const CornerList<T>& list, const std::int32_t* begin,
                             std::int64_t step, const std::int32_t* some, std::int64_t count,
                             std::int32_t* rows, T* shares, std::int32_t* with);
  // Numbers of joined lists to where the lists lie, eight at a time.
  void (*part_lists)(const T* joined, const std::int32_t* begin, std::int64_t step,
                     const std::int32_t* some, std::int64_t count, T* parts);

  // dots[p] = <x[rows[p]], g[with[p]]>.
  void (*dot_list)(const T* x, std::int64_t ldx, const T* g, std::int64_t ldg, std::int64_t width,
                   const std::int32_t* rows, const std::int32_t* with, std::int64_t n, T* dots);

  // y[rows[p]] += shares[p] g[with[p]], in order.
  void (*add_list)(T* y, std::int64_t ldy, const T* g, std::int64_t ldg, std::int64_t width,
                   const std::int32_t* rows, const T* shares, const std::int32_t* with,
                   std::int64_t n);

  // Derivatives of positions [n, 3] and scales of cells from dots [8, n], of their corners.
  void (*slopes_f32)(const T* dots, const T* fraction, const T* scale, std::int64_t n,
                     float* to_positions, T* to_scale);
  void (*slopes_f64)(const T* dots, const T* fraction, const T* scale, std::int64_t n,
                     double* to_positions, T* to_scale);

  // to = 1 / (1 + exp(-from)).
  void (*squash)(const T* from, T* to, std::int64_t n);

  // Shares exp(from) of their sum, for groups of n numbers one behind the other.
  void (*softmax)(const T* from, T* to, std::int64_t groups, std::int64_t n);

  // y += x times the sum of shares[p] kernel[rows[p]].
  void (*mix_add)(const T* kernel, std::int64_t ldk, std::int64_t width, const std::int32_t* rows,
                  const T* shares, std::int64_t n, const T* x, T* y);
};

constexpr std::int64_t outer_limit = 128;

// The fastest multiply-adds of a set: run(rounds, scale, shift) keeps all operands in registers and
// does `flops` floating-point operations a round.
struct Rate {
  double (*run)(std::int64_t rounds, double scale, double shift);
  std::int64_t flops;
};

struct Table {
  const char* name;
  Loops<float, float> f32;
  Loops<double, double> f64;
  Loops<Bf16, float> bf16;
  Loops<F16, float> f16;
  Rate f32_rate;
  Rate f64_rate;
  Rate bf16_rate;  // products of pairs in bfloat16 where the set has them, else those in float
  SiteLoops sites;
  SampleLoops<float> samples_f32;
  SampleLoops<double> samples_f64;
};

}  // namespace sparseconv
