"""The pytest fixture ``segmind_emulator``; nothing heavy is loaded before a test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_provider_segmind.emulator.server import SegmindEmulator

TEST_KEY = "SG_e3b0c44298fc1c14"
MARKER = "segmind_emulator(**options): options of the emulator that the fixture of this name starts"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", MARKER)


@pytest.fixture
def segmind_emulator(request: pytest.FixtureRequest) -> Iterator[SegmindEmulator]:
    """
    Run a fresh emulator with quick jobs on a port of its own.

    The options of the marker ``segmind_emulator`` are those of the command line, with underscores.
    """
    from airflow_provider_segmind.emulator.server import SegmindEmulator

    options = {"key": TEST_KEY, "job_seconds": 0.3, "job_sigma": 0.0}
    for marker in reversed(list(request.node.iter_markers("segmind_emulator"))):  # the nearest one has the last word
        options = {**options, **marker.kwargs}
    with SegmindEmulator(**options) as emulator:
        yield emulator
