"""The commands that users run in a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from demo.airflow_processes import Airflow
from demo.emulator import Emulator
from demo.s3_server import S3Server
from demo.stack import Stack
from tests.photos import photo, subject_pixels

from .conftest import BUCKET, make_airflow


@pytest.fixture(scope="module")
def s3_and_airflow() -> Iterator[tuple[S3Server, Airflow]]:
    """Start no scheduler: it would take the run of `airflow dags test` for its own."""
    with Stack("segmind-tests") as stack:
        s3 = S3Server(stack)
        airflow = make_airflow(stack, Emulator(stack, job_seconds=1, job_sigma=0), s3)
        airflow.migrate_database()
        s3.make_bucket(BUCKET)
        yield s3, airflow


@pytest.mark.parametrize("variant", ["uri_connection", "waiting"], ids=["deferrable", "not deferrable"])
def test_airflow_dags_test_runs_the_whole_task(s3_and_airflow, variant):
    s3, airflow = s3_and_airflow
    image = s3.upload(photo(), f"s3://{BUCKET}/{variant}.png")
    destination = f"s3://{BUCKET}/dags-test/{variant}.png"
    airflow.run("dags", "test", f"erase_{variant}", "--conf", json.dumps({"image": image, "destination": destination}))
    assert subject_pixels(s3.read(destination)["Body"]) == 0


def test_airflow_providers_get_shows_the_provider(s3_and_airflow):
    _, airflow = s3_and_airflow
    shown = airflow.run("providers", "get", "airflow-provider-segmind", "--full", "--output", "json")
    for part in (
        "airflow_provider_segmind.hooks.segmind",
        "airflow_provider_segmind.operators.bria",
        "airflow_provider_segmind.operators.segmind",
        "airflow_provider_segmind.triggers.segmind",
        '"connection-type": "segmind"',
    ):
        assert part in shown.replace("'", '"')
