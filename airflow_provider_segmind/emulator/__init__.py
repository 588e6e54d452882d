"""
An emulator of the Segmind API that needs no account: ``python -m airflow_provider_segmind.emulator``.

It implements the API independently: it imports nothing from the rest of the package, and the rest imports nothing from
it. OpenCV and the web server are imported on the first access to :class:`SegmindEmulator`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_segmind.emulator.server import SegmindEmulator

__all__ = ["SegmindEmulator"]


def __getattr__(name: str) -> object:
    if name == "SegmindEmulator":
        from airflow_provider_segmind.emulator.server import SegmindEmulator

        return SegmindEmulator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
