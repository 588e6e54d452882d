"""
Any model of Segmind's: its slug and its parameters, both from the model's page.

The parameters go to Segmind as they are; only `s3://` addresses become presigned URLs on the way.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_segmind.operators.segmind import SegmindRunModelOperator

with DAG(
    dag_id="segmind_any_model",
    schedule=None,
    tags=["segmind", "example"],
    params={
        "image": Param("s3://photos/astronaut.jpg", type="string"),
        "destination": Param("s3://photos/any-model/", type="string"),
    },
):
    SegmindRunModelOperator(
        task_id="run",
        model="bria-erase-foreground",
        payload={"image": "{{ params.image }}", "preserve_alpha": False},
        destination="{{ params.destination }}",
        retries=3,  # after a crash, or with S3 away, it takes a retry to store what has been paid for
    )
