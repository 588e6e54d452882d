"""Mapped over images and destinations together."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_segmind.operators.bria import BriaEraseForegroundOperator

with DAG(dag_id="erase_each", schedule=None):

    @task
    def pairs(dag_run=None) -> list[dict[str, str]]:
        return dag_run.conf["pairs"]

    BriaEraseForegroundOperator.partial(task_id="erase", poll_interval=1).expand_kwargs(pairs())
