// What is used here of DLPack's C structures, laid out as version 1 of its standard fixes them.
#pragma once
#include <cstdint>

namespace sparseconv::dlpack {

constexpr std::uint32_t kMajor = 1;
constexpr std::int32_t kCpu = 1;
constexpr std::uint8_t kInt = 0, kUnsigned = 1, kFloat = 2, kBfloat = 4, kBool = 6;

struct Version {
  std::uint32_t major, minor;
};

struct Device {
  std::int32_t type, id;
};

struct Dtype {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  std::int32_t dims;
  Dtype dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // in items
  std::uint64_t offset;   // bytes
};

struct Managed {
  Version version;
  void* context;
  void (*free)(Managed*);
  std::uint64_t flags;
  Tensor tensor;
};

// What a library of tensors hands out under `__dlpack_c_exchange_api__`; a function returns 0, or
// sets a Python error. Those that are not used here have no type.
struct Exchange {
  Version version;
  Exchange* previous;
  void* allocate;
  void* to_managed;
  int (*to_object)(Managed* tensor, void** object);  // takes the tensor
  int (*read)(void* object, Tensor* tensor);  // leaves the tensor with its owner
  void* stream;
};

}  // namespace sparseconv::dlpack
