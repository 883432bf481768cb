// Which instruction set runs: the best of this machine, or a forced one.
#pragma once
#include <string>
#include <vector>

#include "simd/table.hpp"

namespace sparseconv {

// The table in use. On first use SPARSECONV_ISA, if set, is obeyed.
const Table& table();

// Names this build and this machine can run, slowest first.
std::vector<std::string> available_isas();

// Force a set; throws std::invalid_argument where it is unknown or cannot run here.
void set_isa(const std::string& name);

}  // namespace sparseconv
