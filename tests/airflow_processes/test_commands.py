"""What users run in a terminal."""

from __future__ import annotations

import json

import pytest

from demo.emulator import Emulator
from tests.photos import subject_pixels

from .conftest import an_airflow


@pytest.fixture(scope="module")
def idle_airflow(world):
    """An Airflow without processes: a scheduler on the same database would take such runs for its own."""
    quick = Emulator(world.stack, "quick-emulator", job_seconds=1, job_sigma=0)
    airflow = an_airflow(world.stack, quick, world.s3, "idle-airflow")
    airflow.migrate_database()
    return airflow


@pytest.mark.parametrize("variant", ["uri_connection", "waiting"], ids=["deferrable", "waiting"])
def test_airflow_dags_test_runs_the_whole_task(world, idle_airflow, variant):
    destination = f"s3://photos/dags-test/{variant}.png"
    conf = json.dumps({"image": world.new_photo(), "destination": destination})
    idle_airflow.run("dags", "test", f"erase_{variant}", "--conf", conf)
    assert subject_pixels(world.s3.read(destination)["Body"]) == 0


def test_airflow_shows_what_the_provider_has(world):
    shown = world.airflow.run("providers", "get", "airflow-provider-segmind", "--full", "--output", "json")
    for part in (
        "airflow_provider_segmind.hooks.segmind",
        "airflow_provider_segmind.operators.bria",
        "airflow_provider_segmind.operators.segmind",
        "airflow_provider_segmind.triggers.segmind",
        '"connection-type": "segmind"',
    ):
        assert part in shown.replace("'", '"')
