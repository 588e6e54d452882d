"""The DAG of a chaos run: one mapped task for each way in which an image can be processed."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG

from airflow_provider_segmind.operators.bria import BriaEraseForegroundOperator
from chaos.deaths import install
from chaos.plan import ERASED, PLAN_VARIABLE, ROUTE_WEIGHTS, Plan

install()
plan = Plan.read(Path(os.environ[PLAN_VARIABLE]))

with DAG(dag_id="erase_many", schedule=None):
    for route in ROUTE_WEIGHTS:
        deferrable = route.startswith("defer")
        if sources := [image.source for image in plan.images_of_route(route)]:
            BriaEraseForegroundOperator.partial(
                task_id=route,
                destination=ERASED,
                image_delivery="inline" if route.endswith("inline") else "auto",
                deferrable=deferrable,
                # A worker process sees only its own job, so its first poll would come when Bria's jobs usually end.
                poll_interval=None if deferrable else 1.0,
                # Every death costs a try, and so does every outage that a task meets.
                retries=15,
                retry_delay=timedelta(seconds=1),
            ).expand(image=sources)
