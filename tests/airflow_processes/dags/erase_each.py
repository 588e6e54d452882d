"""Mapped over images and destinations together, over images alone, and over payloads."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_segmind.operators.bria import BriaEraseForegroundOperator
from airflow_provider_segmind.operators.segmind import SegmindRunModelOperator

with DAG(dag_id="erase_each", schedule=None):

    @task
    def pairs(dag_run=None) -> list[dict[str, str]]:
        return dag_run.conf["pairs"]

    BriaEraseForegroundOperator.partial(task_id="erase", poll_interval=1).expand_kwargs(pairs())

with DAG(dag_id="erase_expanded", schedule=None):

    @task
    def images(dag_run=None) -> list[str]:
        return dag_run.conf["images"]

    BriaEraseForegroundOperator.partial(
        task_id="erase",
        destination="s3://photos/expanded/",
        poll_interval=1,
        retries=2,
        retry_delay=timedelta(seconds=1),
    ).expand(image=images())

with DAG(dag_id="run_expanded", schedule=None):
    SegmindRunModelOperator.partial(
        task_id="run",
        model="bria-erase-foreground",
        destination="s3://photos/payloads/",
        poll_interval=1,
    ).expand(payload=[{"image": f"s3://photos/payload-{name}.png", "preserve_alpha": False} for name in ("a", "b")])
