"""Two tasks of one run on the same image; and a task whose image is another one at each try."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_segmind.operators.bria import BriaEraseForegroundOperator

with DAG(dag_id="erase_twice", schedule=None):
    for name in ("first", "second"):
        BriaEraseForegroundOperator(
            task_id=name,
            image="{{ dag_run.conf['image'] }}",
            destination=f"s3://photos/twice/{name}.png",
            poll_interval=1,
        )

with DAG(dag_id="erase_changing", schedule=None):
    BriaEraseForegroundOperator(
        task_id="erase",
        image="{{ dag_run.conf['images'][ti.try_number - 1] }}",
        destination="{{ dag_run.conf['destination'] }}",
        poll_interval=1,
        timeout=20,
        retries=2,
        retry_delay=timedelta(minutes=30),
    )
