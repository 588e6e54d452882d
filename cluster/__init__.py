"""Erase 400 photos with several workers and triggerers, some of which are killed: ``make cluster``."""
