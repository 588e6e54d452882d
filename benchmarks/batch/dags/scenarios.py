"""A DAG for each scenario of the plan."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from benchmarks.batch.profiles import profile_this_process
from benchmarks.batch.scenarios import PLAN_VARIABLE, PROFILE_VARIABLE, TASK_ID, Scenario, read_plan

# Before the imports of the operators, which are part of what a task process takes.
profile_this_process(os.environ.get(PROFILE_VARIABLE))


def erase_in_batch(scenario: Scenario) -> None:
    """(e): one task for all images."""
    from airflow_provider_segmind.operators.bria import BriaEraseForegroundBatchOperator

    BriaEraseForegroundBatchOperator(
        task_id=TASK_ID,
        images=f"s3://photos/{scenario.source}",
        destination=f"s3://results/{scenario.destination}",
        segmind_conn_id=scenario.name,
        **scenario.options,
    )


def erase_mapped(scenario: Scenario) -> None:
    """(d): a mapped task for each image."""
    from airflow_provider_segmind.operators.bria import BriaEraseForegroundOperator

    BriaEraseForegroundOperator.partial(
        task_id=TASK_ID,
        destination=f"s3://results/{scenario.destination}",
        segmind_conn_id=scenario.name,
        **scenario.options,
    ).expand(image=scenario.sources)


def erase_blocking(scenario: Scenario) -> None:
    """Run Segmind's official client in a mapped task for each image, which holds its worker until the job's end."""

    @task(task_id=TASK_ID)
    def erase(image: str) -> str:
        import tempfile
        from typing import cast

        import httpx
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook
        from airflow.sdk import BaseHook
        from segmind import SegmindClient

        bucket, key = S3Hook.parse_s3_url(image)
        url = S3Hook().generate_presigned_url("get_object", {"Bucket": bucket, "Key": key})
        connection = BaseHook.get_connection(scenario.name)
        client = SegmindClient(api_key=connection.password, base_url=f"{connection.host}/v1")
        job = client.run("bria-erase-foreground", image=url)
        stored = f"{scenario.destination}{key.rpartition('/')[2]}"
        with tempfile.TemporaryFile() as file, httpx.stream("GET", job["images"][0]["url"]) as response:
            for piece in response.iter_bytes():
                file.write(piece)
            file.seek(0)
            S3Hook().load_file_obj(cast(Any, file), stored, "results", replace=True)
        return stored

    erase.expand(image=scenario.sources)


WAYS = {"batch": erase_in_batch, "mapped": erase_mapped, "blocking": erase_blocking}

for planned in read_plan(Path(os.environ[PLAN_VARIABLE])):
    with DAG(dag_id=planned.name, schedule=None, max_active_tasks=1000):
        WAYS[planned.way](planned)
