"""Benchmarks: each script claims something and fails when it is false."""
