"""Measurements behind the figures in README.md; run each with ``python -m benchmarks.<name>``."""
