"""
Redo what failed in an earlier batch, from the ``failed.jsonl`` that lies beside its manifest.

A clear of the earlier task does the same. This is for a list that somebody has looked through, or for other flags.
"""

from __future__ import annotations

# On Airflow 3 these names are also in airflow.sdk. This module has them on Airflow 2.11, too.
from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_segmind.operators.bria import BriaEraseForegroundBatchOperator

with DAG(
    dag_id="segmind_erase_redo",
    schedule=None,
    tags=["segmind", "example"],
    params={
        "failed": Param(
            "s3://photos/erased/_segmind/runs/segmind_erase_nightly/manual__1/erase/failed.jsonl",
            type="string",
            description="the list of an earlier run",
        ),
        "destination": Param("s3://photos/erased/redone/", type="string", description="the folder of the results"),
    },
):
    BriaEraseForegroundBatchOperator(
        task_id="erase",
        images="{{ params.failed }}",
        destination="{{ params.destination }}",
        max_failures=1.0,  # those that fail again are in the new failed.jsonl
        retries=3,
    )
