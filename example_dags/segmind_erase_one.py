"""
Erase the foreground of one photo.

Start it with "Trigger DAG with config", or with
``airflow dags trigger segmind_erase_one --conf '{"image": "s3://...", "destination": "s3://..."}'``.
It needs the connections ``segmind_default`` (its password is your API key) and ``aws_default``.
"""

from __future__ import annotations

# On Airflow 3 these names are also in airflow.sdk. This module has them on Airflow 2.11, too.
from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_segmind.operators.bria import BriaEraseForegroundOperator

with DAG(
    dag_id="segmind_erase_one",
    schedule=None,
    tags=["segmind", "example"],
    params={
        "image": Param("s3://photos/astronaut.jpg", type="string", description="s3://, https:// or a local path"),
        "destination": Param("s3://photos/erased/", type="string", description="a key, or a prefix ending in /"),
    },
):
    # A worker submits the photo and is free again, the triggerer waits for Segmind, and a worker stores the result.
    BriaEraseForegroundOperator(
        task_id="erase",
        image="{{ params.image }}",
        destination="{{ params.destination }}",
        retries=3,  # a retry does not pay again: it stores what was paid for before a crash or an outage
    )
