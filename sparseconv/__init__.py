"""Sparse 3D convolutions for point clouds."""

import torch as _torch  # noqa: F401  first, so that one OpenMP runtime serves both
