"""Figures that the README states, measured: each module is run with ``python -m benchmarks.<name>``."""
