"""One task for each image of the plan, which says how its process dies. The scheduler starts the only run by itself."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path

import httpx
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_segmind.operators.bria import BriaEraseForegroundOperator
from chaos import deaths, seams
from chaos.plan import PLAN_VARIABLE, Plan


def die_while_the_answer_hangs(task):
    """Let a task that is to die at ``post_to_checkpoint`` die as soon as its job is accepted, before any answer."""

    def die_when_accepted():
        emulator = json.loads(os.environ["AIRFLOW_CONN_SEGMIND_DEFAULT"])["host"]
        while task.stem not in httpx.get(f"{emulator}/emulator/jobs", trust_env=False).text:
            time.sleep(0.05)
        task.die_at("post_to_checkpoint")

    def wrap(write):
        @wraps(write)
        def wrapped(checkpoints, checkpoint):
            if task.is_to_die_at("post_to_checkpoint"):
                threading.Thread(target=die_when_accepted, daemon=True).start()
            return write(checkpoints, checkpoint)

        return wrapped

    return wrap


task = deaths.install()
if task is not None:
    for seam in (seams.WRITE_CHECKPOINT, seams.WRITE_LEDGER):
        seams.wrap(seam.name, die_while_the_answer_hangs(task))

with DAG(
    dag_id="killed",
    schedule="@once",
    start_date=datetime(2020, 1, 1, tzinfo=UTC),
    default_args={"retries": 3, "retry_delay": timedelta(seconds=1)},
):
    for image in Plan.read(Path(os.environ[PLAN_VARIABLE])).images:
        options = {"ledger": os.environ["LEDGER"]} if image.stem.endswith("with-ledger") else {}
        BriaEraseForegroundOperator(
            task_id=image.stem, image=image.source, destination=image.target, poll_interval=1, **options
        )
