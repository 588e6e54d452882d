"""The pytest fixture ``segmind_emulator``; it imports the emulator only when a test uses it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_provider_segmind.emulator.server import SegmindEmulator

TEST_KEY = "SG_e3b0c44298fc1c14"
MARKER = "segmind_emulator(**options): options of the emulator that the fixture segmind_emulator starts"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", MARKER)


@pytest.fixture
def segmind_emulator(request: pytest.FixtureRequest) -> Iterator[SegmindEmulator]:
    """
    Run a new emulator on a free port, whose jobs take 0.3 s.

    The marker ``segmind_emulator`` sets the options of the command line, with underscores.
    """
    from airflow_provider_segmind.emulator.server import SegmindEmulator

    options = {"key": TEST_KEY, "job_seconds": 0.3, "job_sigma": 0.0}
    for marker in reversed(list(request.node.iter_markers("segmind_emulator"))):  # the closest marker wins
        options = {**options, **marker.kwargs}
    with SegmindEmulator(**options) as emulator:
        yield emulator
