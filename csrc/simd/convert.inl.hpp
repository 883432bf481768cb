// Element conversions without branches, so that the loops around them vectorise.
// Included inside the namespace of one instruction set.

static inline float as_float(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
static inline std::uint32_t as_bits(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

static inline float widen(float v) { return v; }
static inline double widen(double v) { return v; }
static inline float widen(Bf16 v) { return as_float(std::uint32_t(v.bits) << 16); }
static inline float widen(F16 v) {
  const std::uint32_t magnitude = (std::uint32_t(v.bits) & 0x7fffu) << 13;
  const std::uint32_t sign = (std::uint32_t(v.bits) & 0x8000u) << 16;
  const std::uint32_t exponent = magnitude & 0x0f800000u;
  const std::uint32_t normal = magnitude + 0x38000000u;
  const std::uint32_t special = magnitude + 0x70000000u;  // infinity and NaN
  const float tiny = as_float(magnitude + 0x38800000u) - as_float(0x38800000u);
  const std::uint32_t bits =
      exponent == 0x0f800000u ? special : (exponent == 0 ? as_bits(tiny) : normal);
  return as_float(bits | sign);
}

static inline void narrow(float v, float& to) { to = v; }
static inline void narrow(double v, double& to) { to = v; }
static inline void narrow(float v, Bf16& to) {
  const std::uint32_t bits = as_bits(v);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  to.bits = std::uint16_t((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}
static inline void narrow(float v, F16& to) {
  const std::uint32_t bits = as_bits(v);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  const std::uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const std::uint32_t tiny = as_bits(as_float(magnitude) + as_float(0x3f000000u)) - 0x3f000000u;
  const std::uint32_t normal = (magnitude + 0xc8000fffu + ((magnitude >> 13) & 1u)) >> 13;
  const std::uint32_t half =
      magnitude >= 0x47800000u ? special : (magnitude < 0x38800000u ? tiny : normal);
  to.bits = std::uint16_t(half | sign);
}

template <class S, class T>
static inline void widen_row(const S* from, T* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = widen(from[i]);
}
template <class S, class T>
static inline void narrow_row(const T* from, S* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) narrow(from[i], to[i]);
}

// whole vectors of the type of sums
template <class S, class T>
static inline Vec<T> load_wide(const S* from) {
  if constexpr (sizeof(S) == sizeof(T)) {
    return load(from);
  } else {
    T wide[lanes<T>];
    widen_row(from, wide, lanes<T>);
    return load(wide);
  }
}
template <class T, class S>
static inline void store_narrow(S* to, Vec<T> v) {
  if constexpr (sizeof(S) == sizeof(T)) {
    store(to, v);
  } else {
    T wide[lanes<T>];
    store(wide, v);
    narrow_row(wide, to, lanes<T>);
  }
}
