"""
Each night, erase the foreground of every photo under a prefix that is new or was replaced, in one task.

The batch works in waves: no worker waits while Segmind works, and a retry, a clear or the next night does only what is
missing. Its ledger and its manifest lie below the destination, in ``_segmind/``.
"""

from __future__ import annotations

# On Airflow 3 these names are also in airflow.sdk. This module has them on Airflow 2.11, too.
from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_segmind.operators.bria import BriaEraseForegroundBatchOperator

with DAG(
    dag_id="segmind_erase_nightly",
    schedule=None,  # "@daily" runs it each night; nothing else has to change
    max_active_runs=1,  # two runs at once would not pay twice, but wait for each other's photos
    tags=["segmind", "example"],
    params={
        "source": Param("s3://photos/incoming/", type="string", description="the folder of the photos"),
        "destination": Param("s3://photos/erased/", type="string", description="the folder of the results"),
    },
):
    erase = BriaEraseForegroundBatchOperator(
        task_id="erase",
        images="{{ params.source }}",
        destination="{{ params.destination }}",
        max_failures=0.01,  # one photo of a hundred may be unusable; the manifest names it
        max_cost=100.0,  # US dollars, for one night
        retries=3,  # a retry does only what failed, and stores what was paid for before a crash
    )

    @task
    def report(summary: dict) -> str:
        """Return what a message to the team may say; the manifest says what became of each photo."""
        done = f"{summary['completed']} photos erased, {summary['skipped']} as before, ${summary['cost']:.2f}"
        return f"{done}. See {summary['manifest']}"

    report(erase.output)
