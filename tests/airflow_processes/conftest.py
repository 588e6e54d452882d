"""
Real Airflow for the tests of this folder.

Starting Airflow takes half a minute and a task takes seconds, so the tests share one Airflow, one emulator and one S3,
and the runs that need nobody to act on them are all started at once. :mod:`tests.scheduling` keeps these tests in one
worker.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from demo.airflow_processes import Airflow
from demo.emulator import KEY, Emulator
from demo.s3_server import S3Server
from demo.stack import Stack
from demo.task_history import TaskHistory
from tests.photos import photo

REPOSITORY = Path(__file__).parents[2]
JOB_SECONDS = 10.0
"""
The duration of a job. It must exceed 5 seconds: Airflow 3.3 may notice that late that a task has deferred (its
supervisor checks once in `[workers] min_heartbeat_interval`), and may fail a task that resumes before.
"""
TIMEOUT = 20
"""The `timeout` of the tasks whose job takes longer. A busy machine submits well within it."""
BUCKET = "photos"


@dataclass
class Run:
    """A DAG run and the task in it that the test is about. The task may be mapped."""

    airflow: Airflow
    dag_id: str
    run_id: str
    task_id: str

    def wait(self) -> str:
        return self.airflow.wait_for_run(self.dag_id, self.run_id, timeout=240)

    def succeeded(self) -> bool:
        assert self.wait() == "success", self.log()
        return True

    def log(self, map_index: int = -1, attempt: int = 1) -> str:
        return self.airflow.api.log(self.dag_id, self.run_id, self.task_id, map_index=map_index, attempt=attempt)

    def tasks(self) -> list[dict[str, Any]]:
        found = self.airflow.api.task_instances(self.dag_id, self.run_id)
        return [task for task in found if task["task_id"] == self.task_id]

    def facts(self, map_index: int = -1) -> dict[str, Any]:
        """Return what the task returned."""
        return self.airflow.api.xcom(self.dag_id, self.run_id, self.task_id, map_index=map_index)

    def history(self) -> TaskHistory:
        return TaskHistory(self.airflow.api, self.dag_id, self.run_id, self.task_id)


@dataclass
class World:
    """The processes that the tests share."""

    stack: Stack
    emulator: Emulator
    s3: S3Server
    airflow: Airflow
    photos: int = 0
    runs: dict[str, Run] = field(default_factory=dict)

    def new_photo(self) -> str:
        """Upload a photo that no other test uses."""
        self.photos += 1
        return self.s3.upload(photo(self.photos), f"s3://{BUCKET}/photo-{self.photos}.png")

    def start(self, dag_id: str, task_id: str, **conf: Any) -> Run:
        self.airflow.wait_for_dag(dag_id)
        return Run(self.airflow, dag_id, self.airflow.api.trigger(dag_id, conf), task_id)

    def start_variant(self, name: str, job_seconds: float = JOB_SECONDS) -> Run:
        image = self.new_photo()
        self.let_job_take(image, job_seconds)
        return self.start(f"erase_{name}", "erase", image=image, destination=f"s3://{BUCKET}/{name}/")

    def posts(self, image: str) -> int:
        """Count the accepted POSTs for an image that :meth:`new_photo` made."""
        counts = self.emulator.jobs()["posts_per_image"]
        return sum(count for source, count in counts.items() if source.endswith(f"/{file_name(image)}"))

    def let_job_take(self, image: str, seconds: float) -> None:
        fault = {"name": "job_takes", "image": file_name(image), "times": None, "seconds": seconds}
        httpx.post(f"{self.emulator.url}/emulator/faults", json=fault, trust_env=False).raise_for_status()

    def requests(self, request_id: str) -> list[dict[str, Any]]:
        """Return the requests that the service received about one job."""
        return [entry for entry in self.emulator.requests()["log"] if request_id in entry["path"]]


def file_name(image: str) -> str:
    return image.rpartition("/")[2]


def make_airflow(stack: Stack, emulator: Emulator, s3: S3Server) -> Airflow:
    return Airflow(
        stack,
        dag_folders={
            "examples": REPOSITORY / "example_dags",
            "tests": Path(__file__).with_name("dags"),
        },
        connections={
            "segmind_default": emulator.connection,
            "segmind_uri": f"segmind://:{KEY}@{urlsplit(emulator.url).netloc}/http",
            "segmind_refused": json.dumps({**json.loads(emulator.connection), "password": "SG_refused"}),
            "aws_default": s3.connection,
        },
    )


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    with Stack("segmind-tests") as stack:
        emulator = Emulator(stack, job_seconds=JOB_SECONDS, job_sigma=0)
        s3 = S3Server(stack)
        airflow = make_airflow(stack, emulator, s3)
        airflow.start_standalone()
        s3.make_bucket(BUCKET)
        airflow.wait_until_up()
        address = urlsplit(emulator.url)
        airflow.api.post(
            "connections",
            {
                "connection_id": "segmind_database",
                "conn_type": "segmind",
                "host": address.hostname,
                "port": address.port,
                "schema": address.scheme,
                "password": KEY,
            },
        )
        airflow.api.post("pools", {"name": "single", "slots": 1, "include_deferred": False})
        yield World(stack, emulator, s3, airflow)


@pytest.fixture(scope="session")
def runs(world: World) -> dict[str, Run]:
    """Start the runs that tests only inspect. All together they take little longer than one."""
    example = f"s3://{BUCKET}/examples"
    for number in range(3):
        world.s3.upload(photo(50 + number), f"{example}/incoming/holiday-{number}.png")
    for name, content in {"notes.txt": b"no photo", "": b"", "folder/": b""}.items():
        world.s3.upload(content, f"{example}/incoming/{name}")
    world.s3.upload(photo(53), f"{example}/incoming-old/holiday-0.png")
    # The runs with several tries come first, as they take longest: their jobs take twice the timeout.
    changing = [world.new_photo(), world.new_photo()]
    world.let_job_take(changing[0], seconds=2 * TIMEOUT)
    world.runs["changing"] = world.start(
        "erase_changing", "erase", images=changing, destination=f"s3://{BUCKET}/changing.png"
    )
    world.runs["impatient"] = world.start_variant("impatient", job_seconds=2 * TIMEOUT)
    world.runs |= {name: world.start_variant(name) for name in ("waiting", "inline", "uri_connection", "refused_key")}
    world.runs["database_connection"] = world.start_variant("database_connection")
    world.runs["one"] = world.start(
        "segmind_erase_one", "erase", image=world.new_photo(), destination=f"{example}/one.png"
    )
    world.runs["prefix"] = world.start(
        "segmind_erase_prefix", "erase", source=f"{example}/incoming", destination=f"{example}/erased"
    )
    for number in range(3):
        world.s3.upload(photo(80 + number), f"{example}/tonight/cups/{number}.png")
    world.runs["nightly"] = world.start(
        "segmind_erase_nightly", "erase", source=f"{example}/tonight/", destination=f"{example}/nightly/"
    )
    world.runs["any_model"] = world.start(
        "segmind_any_model", "run", image=world.new_photo(), destination=f"{example}/any/"
    )
    pairs = [{"image": world.new_photo(), "destination": f"s3://{BUCKET}/each/{name}.png"} for name in ("a", "b")]
    world.runs["each"] = world.start("erase_each", "erase", pairs=pairs)
    mixed = [world.new_photo(), f"s3://{BUCKET}/folder/", world.new_photo()]
    world.runs["expanded"] = world.start("erase_expanded", "erase", images=mixed)
    for number, name in enumerate(("a", "b")):
        world.s3.upload(photo(60 + number), f"s3://{BUCKET}/payload-{name}.png")
    world.runs["payloads"] = world.start("run_expanded", "run")
    world.runs["twice"] = world.start("erase_twice", "first", image=world.new_photo())
    return world.runs
