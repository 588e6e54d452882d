"""
Imported by the server that task processes are forked from, so that they find done what each would do again.

It changes nothing about the package: it imports what a task imports, and keeps what botocore reads from its JSON files,
which is most of what an S3 client costs.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

for _module in (
    "airflow.executors.local_executor",
    "airflow.providers.amazon.aws.hooks.s3",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "chaos.deaths",
):
    import_module(_module)

_loader = import_module("botocore.loaders").JSONFileLoader
_loader.load_file = cache(_loader.load_file)
import_module("boto3").client(
    "s3", endpoint_url="http://127.0.0.1:1", region_name="us-east-1", aws_access_key_id="-", aws_secret_access_key="-"
)
import_module("PIL.Image").init()
