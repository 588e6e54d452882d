"""
Imported once by the server from which Airflow's workers are forked, so that no task process has to do this again.

It does not change how the package works. It imports what a task imports, the package included, and caches what botocore
reads from its JSON files, which is most of the cost of an S3 client.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

MODULES = (
    "airflow.executors.local_executor",
    "airflow.providers.amazon.aws.hooks.s3",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow_provider_segmind.hooks.segmind",
    "airflow_provider_segmind.hooks.transport",
    "airflow_provider_segmind.jobs.batch",
    "airflow_provider_segmind.jobs.ledger",
    "airflow_provider_segmind.jobs.run",
    "airflow_provider_segmind.operators.bria",
    "airflow_provider_segmind.triggers.segmind",
    "airflow_provider_segmind.triggers.wave",
    "chaos.deaths",
)


def preload() -> None:
    """Import the modules and fill the caches."""
    for module in MODULES:
        import_module(module)
    loader = import_module("botocore.loaders").JSONFileLoader
    loader.load_file = cache(loader.load_file)
    import_module("boto3").client(
        "s3",
        endpoint_url="http://127.0.0.1:1",
        region_name="us-east-1",
        aws_access_key_id="-",
        aws_secret_access_key="-",
    )
    import_module("PIL.Image").init()


preload()
