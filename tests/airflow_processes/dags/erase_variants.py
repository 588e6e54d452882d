"""The same image task in the ways that users write it; each way is a DAG."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_segmind.operators.bria import BriaEraseForegroundOperator

VARIANTS = {
    "deferrable": {"poll_interval": 1, "pool": "single"},
    "waiting": {"poll_interval": 1, "deferrable": False},
    "inline": {"poll_interval": 1, "image_delivery": "inline"},
    "uri_connection": {"poll_interval": 1, "segmind_conn_id": "segmind_uri"},
    "database_connection": {"poll_interval": 1, "segmind_conn_id": "segmind_database"},
    "cleared": {"poll_interval": 1},
    # Shorter than a job; a retry that waited for its own delay would come long after the test's patience.
    "impatient": {"poll_interval": 1, "timeout": 20, "retries": 2, "retry_delay": timedelta(minutes=30)},
    "refused_key": {"segmind_conn_id": "segmind_refused", "retries": 2, "retry_delay": timedelta(seconds=1)},
}

for name, options in VARIANTS.items():
    with DAG(dag_id=f"erase_{name}", schedule=None):
        BriaEraseForegroundOperator(
            task_id="erase",
            image="{{ dag_run.conf['image'] }}",
            destination="{{ dag_run.conf['destination'] }}",
            **options,
        )
