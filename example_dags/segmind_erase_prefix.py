"""
Every photo under an S3 prefix: one mapped task each, so that each can be retried and watched on its own.

While Segmind works, none of them holds a worker. Airflow maps up to 1024 at a time (`[core] max_map_length`).
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_segmind.operators.bria import BriaEraseForegroundOperator

PHOTOS = (".jpg", ".jpeg", ".png", ".webp")

with DAG(
    dag_id="segmind_erase_prefix",
    schedule=None,
    tags=["segmind", "example"],
    params={
        "source": Param("s3://photos/incoming/", type="string", description="the folder of the photos"),
        "destination": Param("s3://photos/erased/", type="string", description="the folder of the results"),
    },
):

    @task
    def list_photos(source: str, destination: str) -> list[dict[str, str]]:
        # Imported here: this runs in the task, while the file's top level runs each time Airflow parses it.
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        # Both are folders, whether their last slash was written or not: "incoming" is not to find "incoming-old/" too.
        bucket, prefix = S3Hook.parse_s3_url(f"{source.rstrip('/')}/")
        destination = f"{destination.rstrip('/')}/"
        keys = S3Hook("aws_default").list_keys(bucket, prefix=prefix) or []
        keys = [key for key in keys if key.lower().endswith(PHOTOS)]  # nor what marks a folder, "incoming/"
        # A result is named after its photo, in the same folder below the destination.
        targets = {key: destination + key.removeprefix(prefix).rpartition(".")[0] for key in keys}
        if len(set(targets.values())) < len(keys):
            raise ValueError("Two photos differ in their ending only: one's result would overwrite the other's.")
        return [
            {"image": f"s3://{bucket}/{key}", "destination": target.rpartition("/")[0] + "/"}
            for key, target in targets.items()
        ]

    BriaEraseForegroundOperator.partial(
        task_id="erase",
        max_active_tis_per_dag=16,
        retries=3,  # after a crash, or with S3 away, it takes a retry to store what has been paid for
    ).expand_kwargs(list_photos("{{ params.source }}", "{{ params.destination }}"))
