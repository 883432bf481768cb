"""Sums over the taps of each site and the dot products of their pairs, in plain torch so far."""

from sparseconv.backends.reference.taps import tap_dot, tap_sum

__all__ = ["tap_dot", "tap_sum"]
