"""What a worker part imports: a process that Airflow starts for one part pays for each import again."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.s3_server import aws_connection

CODE = """
import json, sys
from airflow_provider_segmind.operators.bria import BriaEraseForegroundOperator
from airflow_provider_segmind.triggers import segmind
from tests.operators.task import Task

segmind.EARLIEST_EVENT = 0.0
options = json.loads(sys.argv[1])
task = Task(lambda: BriaEraseForegroundOperator(task_id="erase", poll_interval=0.1, **options))
deferral = task.submit()
submitted = set(sys.modules)
task.resume(task.wait(deferral))
print(json.dumps([sorted(submitted), sorted(sys.modules)]))
"""
S3_MODULES = {"boto3", "botocore", "s3transfer", "airflow.providers.amazon.aws"}


def loaded_by(**options: object) -> list[set[str]]:
    """Run a task in a fresh process; return what is loaded after its first part, and at its end."""
    command = [sys.executable, "-c", CODE, json.dumps(options)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [set(names) for names in json.loads(ran.stdout.splitlines()[-1])]


@pytest.mark.parametrize("image_is", ["a file", "Base64"])
def test_a_task_without_s3_loads_nothing_of_s3_and_no_imaging_library(segmind, image, tmp_path, image_is) -> None:
    if image_is == "Base64":
        image = base64.b64encode(Path(image).read_bytes()).decode()
    for loaded in loaded_by(image=image, destination=f"{tmp_path}/out/"):
        assert "airflow_provider_segmind.jobs.run" in loaded
        assert loaded.isdisjoint({*S3_MODULES, "PIL"})


def test_a_task_that_leaves_its_result_at_segmind_loads_nothing_of_s3(segmind, image) -> None:
    assert [S3_MODULES & loaded for loaded in loaded_by(image=image)] == [set(), set()]


def test_a_task_whose_destination_is_in_s3_checks_it_in_its_first_part(segmind, image, s3, monkeypatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(s3.url))
    first, _ = loaded_by(image=image, destination=f"s3://{s3.bucket}/out.png")
    assert first >= S3_MODULES
