from __future__ import annotations

import pytest

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
