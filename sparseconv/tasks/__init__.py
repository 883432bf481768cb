"""Whole jobs: segment a scan, train a network, evaluate it."""
