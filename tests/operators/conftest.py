from __future__ import annotations

import pytest

from airflow_provider_segmind.jobs import ledger as module
from airflow_provider_segmind.operators.bria import BriaEraseForegroundOperator
from tests.operators.task import Task
from tests.photos import photo


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "cup.png"
    path.write_bytes(photo())
    return str(path)


@pytest.fixture
def destination(tmp_path):
    return tmp_path / "out" / "cup.png"


@pytest.fixture
def erase(segmind, image, destination):
    """Return a function that makes the task of erasing a local photo's foreground into a local file."""

    def make(durable=True, **options):
        options = {"image": image, "destination": str(destination), "poll_interval": 0.1, **options}
        return Task(lambda: BriaEraseForegroundOperator(task_id="erase", **options), durable=durable)

    return make


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "ledger"


@pytest.fixture
def task(erase, folder, tmp_path):
    """Return a function that makes a task of a run, with a destination of its own."""

    def make(run="run-1", index=-1, tries=0, **options):
        destination = str(tmp_path / run / f"{index}.png")
        made = erase(durable=False, **{"ledger": str(folder), "destination": destination, **options})
        made.ti.run_id, made.ti.map_index, made.ti.max_tries = run, index, tries
        return made

    return make


@pytest.fixture
def quick_looks(monkeypatch):
    """Let a task look soon again what became of another one's submit."""
    monkeypatch.setattr(module, "PENDING_PAUSE", 0.2)
