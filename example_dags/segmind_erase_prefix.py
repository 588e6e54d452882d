"""
Erase the foreground of every photo under an S3 prefix, as often as you like, and pay only for new and replaced photos.

Each photo is one mapped task, so that each can be retried and watched by itself. None of them holds a worker slot while
Segmind works. Airflow maps up to 1024 tasks at a time (``[core] max_map_length``).
"""

from __future__ import annotations

# On Airflow 3 these names are also in airflow.sdk. This module has them on Airflow 2.11, too.
from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_segmind.operators.bria import BriaEraseForegroundOperator

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")

with DAG(
    dag_id="segmind_erase_prefix",
    schedule=None,  # "@daily" runs it each night; nothing else has to change
    tags=["segmind", "example"],
    params={
        "source": Param("s3://photos/incoming/", type="string", description="the folder of the photos"),
        "destination": Param("s3://photos/erased/", type="string", description="the folder of the results"),
    },
):

    @task
    def list_photos(source: str, destination: str) -> list[dict[str, str]]:
        # Imported here because this function runs in the task, while the top of the file runs at each parsing.
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        # A folder ends in one slash, however it was written: "incoming" must not match "incoming-old/".
        bucket, prefix = S3Hook.parse_s3_url(f"{source.rstrip('/')}/")
        destination = f"{destination.rstrip('/')}/"

        photos = []
        # Sorted, because a retry finds the checkpoint of a photo by its position in this list.
        for key in sorted(S3Hook("aws_default").list_keys(bucket, prefix=prefix) or []):
            if key.lower().endswith(EXTENSIONS):
                folder = key[len(prefix) : key.rindex("/") + 1]  # "a/" for "incoming/a/front.jpg"
                photos.append({"image": f"s3://{bucket}/{key}", "destination": destination + folder})
        return photos

    BriaEraseForegroundOperator.partial(
        task_id="erase",
        if_exists="skip",  # a photo whose result is stored already succeeds at once, and is not paid for again
        max_active_tis_per_dag=16,
        retries=3,  # a retry does not pay again: it stores what was paid for before a crash or an outage
    ).expand_kwargs(list_photos("{{ params.source }}", "{{ params.destination }}"))
