"""
Fixtures for all tests.

Before anything imports Airflow, it gets a home of its own, so that no test uses the developer's.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

_worker = os.environ.get("PYTEST_XDIST_WORKER")
if _worker:
    # Each worker needs its own database. The process that started the workers removes its home and these in it.
    os.environ["AIRFLOW_HOME"] = str(Path(os.environ["AIRFLOW_HOME"]) / _worker)
else:
    os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="segmind-tests-")
    atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
for _name in [name for name in os.environ if name.startswith(("AIRFLOW_CONN_", "AWS_"))]:
    if _name != "AWS_CA_BUNDLE":
        del os.environ[_name]

import pytest  # noqa: E402

pytest_plugins = ["tests.s3_server", "tests.scheduling"]


@pytest.fixture(autouse=True)
def _events_at_once(request, monkeypatch):
    """Let triggers send their event without delay. The delay is for Airflow's scheduler, which does not run here."""
    if "airflow_processes" not in request.node.nodeid and "emulator" not in request.node.nodeid:
        monkeypatch.setattr("airflow_provider_segmind.triggers.segmind.EARLIEST_EVENT", 0.0)


@pytest.fixture(autouse=True)
def _nothing_learned():
    """Forget rate limits and job times of earlier tests, whose emulator may have had the same port."""
    yield
    session = sys.modules.get("airflow_provider_segmind.hooks.session")
    if session is not None:
        session._learned.clear()


@pytest.fixture
def segmind(segmind_emulator, monkeypatch):
    """Start the emulator and define the connection ``segmind_default`` to it."""
    monkeypatch.setenv("AIRFLOW_CONN_SEGMIND_DEFAULT", segmind_emulator.connection)
    return segmind_emulator


@pytest.fixture
def quick_jobs(monkeypatch):
    """Set the published duration of a job to the emulator's, so that the first poll comes as early."""
    from airflow_provider_segmind.api import poll_schedule

    monkeypatch.setitem(poll_schedule.PUBLISHED_SECONDS, "bria-erase-foreground", 0.3)


@pytest.fixture
def quick_retries(monkeypatch):
    """Use the shortest delay wherever a delay is random."""
    from functools import partial

    from airflow_provider_segmind.api.operation import ApiContext
    from airflow_provider_segmind.hooks import session

    monkeypatch.setattr(session, "ApiContext", partial(ApiContext, jitter=min))
