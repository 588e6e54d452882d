"""
A Segmind to run against without an account: ``python -m airflow_provider_segmind.emulator``.

It is an independent reading of the service's API: it imports nothing from the rest of the package, and nothing of
the rest imports it. OpenCV and the web server are loaded when :class:`SegmindEmulator` is first asked for.
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
