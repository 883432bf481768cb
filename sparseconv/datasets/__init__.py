"""Loaders of labelled scans, label tables, and scenes made by rule."""
