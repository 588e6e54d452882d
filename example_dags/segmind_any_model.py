"""
Run any model of Segmind's, with the slug and the parameters from the model's API page.

The parameters are sent as they are, except that ``s3://`` addresses anywhere in them become presigned URLs.
"""

from __future__ import annotations

# On Airflow 3 these names are also in airflow.sdk. This module has them on Airflow 2.11, too.
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
        destination="{{ params.destination }}",  # below a prefix, the result is named after its request id
        retries=3,  # a retry does not pay again: it stores what was paid for before a crash or an outage
    )
