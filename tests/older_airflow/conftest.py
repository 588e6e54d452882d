"""
Airflow releases without a task state store, as processes: ``.ci/matrix.py`` runs these tests on them.

One DAG run has a task for each way to be killed, with a ledger and without. It runs to its end before the first test.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

from chaos.plan import BUCKET, PLAN_VARIABLE, ImagePlan, Plan, Point
from demo.airflow_processes import COMPONENTS, Airflow
from demo.emulator import Emulator
from demo.s3_server import S3Server
from demo.stack import Stack
from tests.photos import photo

VERSION = tuple(int(part) for part in version("apache-airflow").split(".")[:2])
if VERSION >= (3, 3):  # it has a task state store, and chaos/ kills its tasks
    collect_ignore_glob = ["test_*.py"]

REPOSITORY = Path(__file__).parents[2]
AIRFLOW_2 = VERSION < (3,)
KILLS: dict[str, Point] = {
    "in-defer": "checkpoint_to_wait",
    "while-the-answer-hangs": "post_to_checkpoint",
    "in-the-download": "mid_download",
}
"""How a task is killed, and the point of :mod:`chaos.deaths` that this is."""
SECONDS = 240

SETTINGS = {
    "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).with_name("dags")),
    # Airflow 2 lets only this executor use SQLite.
    "AIRFLOW__CORE__EXECUTOR": "SequentialExecutor" if AIRFLOW_2 else "LocalExecutor",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL": "5",
    "PYTHONPATH": str(REPOSITORY),
}


@dataclass(frozen=True)
class Outcome:
    """What became of one task: its state and tries, the number of accepted POSTs, and its stored result."""

    state: str | None
    tries: int
    posts: int
    result: bytes | None


@pytest.fixture(scope="session")
def outcomes() -> Iterator[dict[str, Outcome]]:
    images = tuple(
        ImagePlan(f"{kill}-{ledger}-ledger", "defer_url", 0, (point,))
        for kill, point in KILLS.items()
        for ledger in ("with", "without")
    )
    with Stack("segmind-older") as stack:
        emulator, s3 = Emulator(stack, job_seconds=3, job_sigma=0), S3Server(stack)
        (stack.scratch / "deaths").mkdir()
        Plan(1, images, ()).write(stack.scratch / "plan.json")
        s3.make_bucket(BUCKET)
        for image in images:
            s3.upload(photo(), image.source)
            if "hangs" in image.stem:
                fault = {"name": "hang_after_accept", "image": f"{image.stem}.jpg"}
                httpx.post(f"{emulator.url}/emulator/faults", json=fault, trust_env=False).raise_for_status()
        airflow = Airflow(
            stack,
            dag_folders={"tests": Path(__file__).with_name("dags")},
            connections={"segmind_default": emulator.connection, "aws_default": s3.connection},
            settings=SETTINGS | {PLAN_VARIABLE: str(stack.scratch / "plan.json"), "LEDGER": f"s3://{BUCKET}/ledger/"},
        )
        airflow.use_sqlite()
        airflow.migrate_database()
        for component in ("scheduler", "triggerer") if AIRFLOW_2 else COMPONENTS:
            airflow.start(component)
        tasks = wait_until_all_have_ended(airflow, len(images))
        posts = emulator.jobs()["posts_per_image"]
        stored = s3.keys(BUCKET, "erased/")
        yield {
            image.stem: Outcome(
                *tasks[image.stem],
                sum(count for source, count in posts.items() if source.endswith(f"/{image.stem}.jpg")),
                s3.read(image.target)["Body"] if image.target.endswith(tuple(stored)) else None,
            )
            for image in images
        }


def wait_until_all_have_ended(airflow: Airflow, count: int) -> dict[str, tuple[str | None, int]]:
    """Return state and number of tries by task, once all have ended."""
    deadline = time.monotonic() + SECONDS
    while True:
        airflow.ensure_running()
        with closing(sqlite3.connect(airflow.home / "airflow.db", timeout=60)) as database:
            rows = database.execute("SELECT task_id, state, try_number FROM task_instance").fetchall()
        tasks = {task_id: (state, tries) for task_id, state, tries in rows}
        if len(tasks) == count and all(state in ("success", "failed") for state, _ in tasks.values()):
            return tasks
        if time.monotonic() > deadline:
            raise TimeoutError(f"After {SECONDS} s the tasks are {tasks}.")
        time.sleep(0.5)
