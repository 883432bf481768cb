"""The compiled kernels on CPU tensors: check, allocate, hand addresses to `sparseconv._native`."""
