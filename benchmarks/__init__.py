"""Slow benchmarks whose results are committed; run a module with `python -m benchmarks.<name>`."""
