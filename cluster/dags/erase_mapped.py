"""One task for each photo, on two workers and two triggerers."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_segmind.operators.bria import BriaEraseForegroundOperator
from cluster.plan import MAPPED, MAPPED_CONNECTION, POOL

with DAG(dag_id=MAPPED.dag_id, schedule=None):
    BriaEraseForegroundOperator.partial(
        task_id="erase",
        destination=MAPPED.destination,
        segmind_conn_id=MAPPED_CONNECTION,
        pool=POOL,
        retries=5,
        retry_delay=timedelta(seconds=1),
    ).expand(image=[photo.source for photo in MAPPED.photos])
