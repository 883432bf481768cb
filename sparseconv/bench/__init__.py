"""Timings: this library, other libraries and a plain matrix product, side by side."""
