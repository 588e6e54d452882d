"""The demo: a photo in S3, the example DAG in real Airflow, and the result in S3."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.airflow_processes import Airflow
from demo.before_after import draw
from demo.emulator import Emulator
from demo.live_line import LiveLine
from demo.s3_server import S3Server
from demo.settings import PHOTO, Settings
from demo.stack import Stack
from demo.task_history import TaskHistory

DAG_ID, TASK_ID = "segmind_erase_one", "erase"
DAGS = Path(__file__).parents[1] / "example_dags"
BUCKET = "photos"
OUTPUT = Path("demo-output")
TIMEOUT = 660.0
"""Seconds. The operator itself times out after 600."""


class TaskFailedError(Exception):
    """
    The task of the example DAG did not succeed.

    :param message: what happened
    :param log: the log of the task
    """

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.log = log


@dataclass(frozen=True)
class Outcome:
    """
    The results of a demo.

    :param states: the states of the task with their times, as epoch seconds
    :param submitted: when Segmind accepted the photo, as epoch seconds
    :param requests: the number of requests to the API by kind, or ``None`` if unknown
    :param facts: what the task returned
    :param picture: the file with the photo before and after
    :param ui: the address of Airflow's UI
    :param s3: the address of the S3 server
    """

    states: list[tuple[float, str]]
    submitted: float | None
    requests: Mapping[str, int] | None
    facts: dict[str, Any]
    picture: Path
    ui: str
    s3: str


class DemoRun:
    """
    One run of the demo.

    :param settings: its settings
    :param stack: the stack in which its processes run
    :param line: where to show the progress
    """

    def __init__(self, settings: Settings, stack: Stack, line: LiveLine) -> None:
        self.settings = settings
        self.stack = stack
        self.line = line
        self.submitted: float | None = None

    def run(self) -> Outcome:
        """Start everything, run the DAG and return the results."""
        real = self.settings.api_key is not None
        self.line.show(f"starting {'' if real else 'the emulator, '}S3 and Airflow (about half a minute)")
        emulator = None if self.settings.api_key else Emulator(self.stack)
        s3 = S3Server(self.stack)
        airflow = Airflow(
            self.stack,
            dag_folders={"examples": DAGS},
            connections={
                "segmind_default": emulator.connection if emulator else self._real_connection(),
                "aws_default": s3.connection,
            },
        )
        airflow.start_standalone()
        image = self._upload(s3)
        airflow.wait_until_up()
        airflow.wait_for_dag(DAG_ID)
        destination = f"s3://{BUCKET}/erased/{Path(self.settings.name).stem}.png"
        run_id = airflow.api.trigger(DAG_ID, {"image": image, "destination": destination})
        history = TaskHistory(airflow.api, DAG_ID, run_id, TASK_ID)
        self._watch(airflow, history)
        facts = airflow.api.xcom(DAG_ID, run_id, TASK_ID)
        picture = draw(self.settings.photo, s3.read(facts["uri"])["Body"], _picture_path(self.settings.name))
        log = emulator.requests() if emulator else None
        return Outcome(
            states=history.states(),
            # The emulator has logged the time. Otherwise it is the time at which we first saw the request id.
            submitted=next((entry["time"] for entry in log["log"] if entry["kind"] == "submit"), None)
            if log
            else self.submitted,
            requests=_api_requests(log["counts"]) if log else None,
            facts=facts,
            picture=picture,
            ui=airflow.url,
            s3=s3.url,
        )

    def _real_connection(self) -> str:
        connection = {"conn_type": "segmind", "password": self.settings.api_key}
        if self.settings.api_url:
            connection["host"] = self.settings.api_url
        return json.dumps(connection)

    def _upload(self, s3: S3Server) -> str:
        """Fill the bucket, for the other example DAGs as well, and return the image parameter for the DAG."""
        s3.make_bucket(BUCKET)
        for photo in sorted(PHOTO.parent.glob("*.jpg")):
            s3.upload(photo, f"s3://{BUCKET}/{photo.name}")
            s3.upload(photo, f"s3://{BUCKET}/incoming/{photo.name}")
        if isinstance(self.settings.image, str):
            return self.settings.image
        if self.settings.api_key:
            return str(self.settings.image)  # the real service cannot reach our S3, so the worker sends the file inline
        return s3.upload(self.settings.image, f"s3://{BUCKET}/{self.settings.name}")

    def _watch(self, airflow: Airflow, history: TaskHistory) -> None:
        steps = {"queued": 0.0, "submitted": 0.0, "deferred": 0.0, "stored": 0.0}
        began = time.monotonic()
        self._show(steps)
        while True:
            state = history.update()
            now = time.monotonic() - began
            if state in {"queued", "running", "deferred"} and not steps["queued"]:
                steps["queued"] = now
            if state in {"running", "deferred"} and not steps["submitted"] and self._has_request_id(history):
                steps["submitted"] = now
                self.submitted = time.time()
            if state == "deferred" and not steps["deferred"]:
                steps["deferred"] = now
            if state == "success":
                steps["stored"] = now
            self._show(steps)
            if state == "success":
                return
            if state in {"failed", "skipped", "upstream_failed", "up_for_retry"}:
                log = history.api.log(DAG_ID, history.run_id, TASK_ID, attempt=max(history.try_number, 1))
                # A retry would start minutes later, which is too long for somebody who is watching.
                end = "failed in its first try" if state == "up_for_retry" else f"ended with the state {state}"
                raise TaskFailedError(f"The task {end}.", log)
            if now > TIMEOUT:
                raise TaskFailedError(f"The task is still {state} after {now:.0f} s.", "")
            airflow.ensure_running()
            for process in self.stack.processes.values():
                process.ensure_running()
            time.sleep(0.25)

    def _has_request_id(self, history: TaskHistory) -> bool:
        """Return whether Segmind has accepted the photo. The operator pushes the request id before it defers."""
        return history.api.xcom(DAG_ID, history.run_id, TASK_ID, key="request_id") is not None

    def _show(self, steps: Mapping[str, float]) -> None:
        done = [f"{step} {moment:.1f} s" for step, moment in steps.items() if moment]
        coming = [f"{step} ..." for step, moment in steps.items() if not moment][:1]
        self.line.show(" > ".join(done + coming))


def _api_requests(counts: Mapping[str, int]) -> dict[str, int]:
    return {kind: count for kind, count in Counter(counts).items() if kind not in {"unknown"}}


def _picture_path(name: str) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in range(1000):
        path = OUTPUT / f"{Path(name).stem}-before-after-{stamp}{f'-{number}' if number else ''}.png"
        if not path.exists():
            return path
    raise FileExistsError(f"{OUTPUT} has a thousand pictures of this second. Remove some.")
