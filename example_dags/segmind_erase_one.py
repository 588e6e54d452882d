"""
One photo: take its subject away, and store the picture.

Start it with "Trigger DAG with config", or: airflow dags trigger segmind_erase_one --conf '{"image": "s3://...", ...}'
It needs the connections `segmind_default` (password: your API key) and `aws_default`.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_segmind.operators.bria import BriaEraseForegroundOperator

with DAG(
    dag_id="segmind_erase_one",
    schedule=None,
    tags=["segmind", "example"],
    params={
        "image": Param("s3://photos/astronaut.jpg", type="string", description="s3://, https:// or a path"),
        "destination": Param("s3://photos/erased/", type="string", description="a key, or a prefix ending in /"),
    },
):
    # A worker submits the photo and is free again; the triggerer waits for Segmind; a worker stores the result.
    BriaEraseForegroundOperator(
        task_id="erase",
        image="{{ params.image }}",
        destination="{{ params.destination }}",
        retries=3,  # after a crash, or with S3 away, it takes a retry to store what has been paid for
    )
