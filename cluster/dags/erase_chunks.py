"""Four batches, each for a quarter of the photos, on two workers and two triggerers."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_segmind.operators.bria import BriaEraseForegroundBatchOperator
from cluster.plan import CHUNK_CONNECTIONS, CHUNKED, chunks

with DAG(dag_id=CHUNKED.dag_id, schedule=None):
    BriaEraseForegroundBatchOperator.partial(
        task_id="erase",
        destination=CHUNKED.destination,
        retries=5,
        retry_delay=timedelta(seconds=1),
    ).expand_kwargs(
        [
            {"images": images, "segmind_conn_id": conn_id}
            for conn_id, images in zip(CHUNK_CONNECTIONS, chunks(), strict=True)
        ]
    )
