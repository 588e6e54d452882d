"""
The DAGs of a chaos run.

One has a mapped task for each way in which an image can be processed. Two others process the same images over one
ledger. Two more have a batch each.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG

from airflow_provider_segmind.operators.bria import BriaEraseForegroundBatchOperator, BriaEraseForegroundOperator
from chaos.deaths import install
from chaos.plan import ERASED, LEDGER, MAPPED_DAG, PLAN_VARIABLE, ROUTE_WEIGHTS, SHARED_BUCKET, SHARING_DAGS, Plan

install()
plan = Plan.read(Path(os.environ[PLAN_VARIABLE]))

# Every death costs a try, and so does every outage that a task meets.
RETRIES = {"retries": 15, "retry_delay": timedelta(seconds=1)}
BATCH_RETRIES = {"retries": 200, "retry_delay": timedelta(seconds=1)}

BATCH_PRIORITY = 100
"""A batch is one task instance that starts 40 times as often as the others. It does not queue behind all of them."""

MAX_WAVE = 40
"""Small waves, so that kills meet all phases of a batch many times."""

# A worker process sees only its own job, so its first poll would come when Bria's jobs usually end.
POLL_INTERVALS = {True: None, False: 1.0}

with DAG(dag_id=MAPPED_DAG, schedule=None, default_args=RETRIES):
    for route in ROUTE_WEIGHTS:
        deferrable = route.startswith("defer")
        if sources := [image.source for image in plan.images_of_route(route)]:
            BriaEraseForegroundOperator.partial(
                task_id=route,
                destination=ERASED,
                image_delivery="inline" if route.endswith("inline") else "auto",
                deferrable=deferrable,
                poll_interval=POLL_INTERVALS[deferrable],
            ).expand(image=sources)

for dag_id in SHARING_DAGS if plan.shared else ():
    deferrable = dag_id.endswith("deferring")
    with DAG(dag_id=dag_id, schedule=None, default_args=RETRIES):
        BriaEraseForegroundOperator.partial(
            task_id="erase",
            destination=f"s3://{SHARED_BUCKET}/{dag_id}/",
            ledger=LEDGER,
            if_exists="skip",  # the run that replaces a deleted one does what is missing
            deferrable=deferrable,
            poll_interval=POLL_INTERVALS[deferrable],
        ).expand(image=[image.source for image in plan.shared])

for batch in plan.batches:
    with DAG(dag_id=batch.dag_id, schedule=None, default_args=BATCH_RETRIES):
        BriaEraseForegroundBatchOperator(
            task_id="erase",
            images=batch.folder,
            destination=batch.stored_at,
            max_wave=MAX_WAVE,
            priority_weight=BATCH_PRIORITY,
        )
