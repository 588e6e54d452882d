"""
Erase photos soon after they land in S3, a few minutes' worth in each batch (Airflow 3).

S3 sends an event for each new object to a queue of SQS (bucket, *Properties*, *Event notifications*). A watcher on the
triggerer reads the queue and starts a run, whose batch takes all photos of the messages. If a message comes twice,
nothing is paid twice: the photo's result is there already, or in the ledger.
"""

from __future__ import annotations

import json
from urllib.parse import unquote_plus

from airflow.providers.amazon.aws.triggers.sqs import SqsSensorTrigger  # noqa: TID253 - a watcher is made at parsing
from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_segmind.operators.bria import BriaEraseForegroundBatchOperator

QUEUE = "https://sqs.us-east-1.amazonaws.com/123456789012/photos"
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")

photos = Asset(
    "photos",
    watchers=[AssetWatcher("photos_queue", trigger=SqsSensorTrigger(QUEUE, max_messages=10, num_batches=10))],
)

with DAG(dag_id="segmind_erase_on_arrival", schedule=[photos], tags=["segmind", "example"]):

    @task
    def landed(triggering_asset_events: dict | None = None) -> list[str]:
        """Return the photos that the messages of S3 name."""
        uris = []
        for event in (triggering_asset_events or {}).get(photos, []):
            for message in event.extra["payload"]["message_batch"]:
                for record in json.loads(message["Body"]).get("Records", []):  # S3's test message has none
                    bucket, key = record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"])
                    if key.lower().endswith(EXTENSIONS):
                        uris.append(f"s3://{bucket}/{key}")
        return sorted(set(uris))

    BriaEraseForegroundBatchOperator(
        task_id="erase",
        images=landed(),
        destination="s3://results/erased/",
        max_failures=1.0,  # an unusable photo is a line of the manifest
        retries=3,
    )
