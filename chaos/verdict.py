"""What must be true in the end, image by image and as a whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos import photos
from chaos.plan import BUCKET, ImagePlan, Plan
from chaos.records import Records, TaskRecord
from chaos.stage import DAG_ID, Stage
from demo.s3_server import split


@dataclass
class Verdict:
    """
    What was found.

    :param wrong_images: what is wrong, by image
    :param wrong: what is wrong as a whole
    :param posts: how many POSTs were accepted
    :param failed_jobs: how many of them failed at the service and were not billed
    :param tries: how many tries all tasks had
    :param most_tries: and the one that had most
    """

    wrong_images: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    wrong: list[str] = field(default_factory=list)
    posts: int = 0
    failed_jobs: int = 0
    tries: int = 0
    most_tries: int = 0

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong and not self.wrong_images


class Judge:
    """
    Looks at everything that a run leaves behind.

    :param stage: where it ran
    :param plan: what was asked for
    :param records: Airflow's tables
    """

    def __init__(self, stage: Stage, plan: Plan, records: Records) -> None:
        self.stage = stage
        self.plan = plan
        self.records = records
        self.jobs = _by_image(stage.emulator.jobs()["jobs"])
        self.verdict = Verdict()

    def judge(self) -> Verdict:
        """Return the verdict."""
        tasks = {(task.task_id, task.map_index): task for task in self.records.tasks()}
        for number, image in enumerate(self.plan.images):
            for fault in self._faults_of(number, image, tasks.get((image.route, image.map_index))):
                self.verdict.wrong_images[image.stem].append(fault)
        self.verdict.posts = sum(len(jobs) for jobs in self.jobs.values())
        self.verdict.failed_jobs = sum(job["state"] == "FAILED" for jobs in self.jobs.values() for job in jobs)
        self.verdict.tries = sum(task.try_number for task in tasks.values())
        self.verdict.most_tries = max((task.try_number for task in tasks.values()), default=0)
        self.verdict.wrong += self._left_behind()
        return self.verdict

    def history_of(self, image: ImagePlan) -> list[str]:
        """Tell all that is known of an image."""
        deaths = [path.read_text("utf-8") for path in sorted(self.stage.deaths.glob(f"{image.stem}.*.json"))]
        jobs = [
            f"job {job['request_id']}: {job['state']}, accepted at {job['created']:.3f}, {job['error'] or 'no error'}"
            for job in self._jobs_of(image)
        ]
        return [
            f"{image.route}[{image.map_index}], planned deaths: {', '.join(image.deaths) or 'none'}",
            *self.records.tries(image.route, image.map_index),
            *jobs,
            *deaths,
            *self._log_of(image),
        ]

    def _log_of(self, image: ImagePlan) -> Iterator[str]:
        folder = self.stage.stack.scratch / "airflow" / "logs"
        place = f"dag_id={DAG_ID}/*/task_id={image.route}/map_index={image.map_index}/*.log"
        for log in sorted(folder.glob(place)):
            yield f"--- {log.name}"
            for line in log.read_text("utf-8", "replace").splitlines():
                with contextlib.suppress(ValueError, AttributeError):
                    said = json.loads(line)
                    line = " ".join(str(said[name]) for name in ("timestamp", "level", "event") if name in said)
                    line += "".join(f" {e.get('exc_type')}: {e.get('exc_value')}" for e in said.get("error_detail", []))
                yield line[:400]

    # ------------------------------------------------------------------ image by image

    def _faults_of(self, number: int, image: ImagePlan, task: TaskRecord | None) -> Iterator[str]:
        if task is None or task.state != "success":
            yield f"its task is {task.state if task else 'missing'}"
        jobs = self._jobs_of(image)
        billed = [job for job in jobs if job["state"] != "FAILED"]
        if len(billed) != 1:
            yield f"{len(jobs)} accepted POSTs, of which {len(billed)} did not fail at the service"
        try:
            stored = self.stage.s3.read(image.target)
        except self.stage.s3.client.exceptions.NoSuchKey:
            yield "it is not stored"
            return
        if fault := photos.fault_of(stored["Body"], self.plan.seed, number, len(self.plan.images)):
            yield f"what is stored: {fault}"
        if stored["Metadata"].get("segmind-request-id") not in {job["request_id"] for job in billed}:
            yield "what is stored comes from no job of its own"

    def _jobs_of(self, image: ImagePlan) -> list[dict[str, Any]]:
        if image.route.endswith("inline"):
            content = self.stage.s3.read(image.source)["Body"]
            return self.jobs.get(_inline_identity(content), [])
        return next((jobs for name, jobs in self.jobs.items() if name.endswith(f"/{image.stem}.jpg")), [])

    # ------------------------------------------------------------------ as a whole

    def _left_behind(self) -> Iterator[str]:
        client = self.stage.s3.client
        if uploads := client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
            yield f"unfinished multipart uploads: {[upload['Key'] for upload in uploads]}"
        expected = {split(image.target)[1] for image in self.plan.images}
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="erased/")
        there = {found["Key"] for page in pages for found in page.get("Contents", [])}
        if extra := there - expected:
            yield f"objects that nobody asked for: {sorted(extra)}"
        known = {job["request_id"] for image in self.plan.images for job in self._jobs_of(image)}
        if strangers := {job["request_id"] for jobs in self.jobs.values() for job in jobs} - known:
            yield f"jobs of no image: {sorted(strangers)}"
        if count := self.records.triggers():
            yield f"{count} triggers are left in Airflow"
        if count := self.records.open_notes():
            yield f"{count} notes in Airflow speak of jobs that are not finished"
        if (state := self.records.run_state()) != "success":
            yield f"the run is {state}"
        scratch = self.stage.stack.scratch
        if files := [str(path) for path in (scratch / "tmp").rglob("*") if "segmind" in path.name]:
            yield f"temporary files: {files}"
        if logs := [str(path.relative_to(scratch)) for path in _logs(scratch) if _holds(path, self.stage.emulator.key)]:
            yield f"the API key is in {logs}"


def _by_image(jobs: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for job in jobs:
        found[job["image"]].append(job)
    return found


def _inline_identity(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _logs(scratch: Path) -> Iterator[Path]:
    for folder in (scratch / "logs", scratch / "airflow" / "logs"):
        yield from (path for path in folder.rglob("*") if path.is_file())


def _holds(path: Path, secret: str) -> bool:
    return secret.encode() in path.read_bytes()
