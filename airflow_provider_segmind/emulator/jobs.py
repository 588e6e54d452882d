"""The jobs that were accepted, kept in SQLite so that the emulator's death is an outage and not amnesia."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sqlite3
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from airflow_provider_segmind.emulator.images import InputRefusedError, decode_inline, is_url

State = Literal["QUEUED", "PROCESSING", "COMPLETED", "FAILED"]

IMAGE_PARAMETERS = ("image", "image_url", "input_image")
QUEUE_SHARE = 0.05  # of a job's time is spent waiting for a machine


@dataclass(slots=True)
class Plan:
    """
    What faults decided about a job before it exists; ``None`` leaves it to the settings and to the input.

    :param seconds: how long the job takes
    :param error: the text with which the job fails
    :param history_delay: how late the request history lists it
    """

    seconds: float | None = None
    error: str | None = None
    history_delay: float | None = None


@dataclass(slots=True)
class Job:
    """
    One accepted POST.

    :param request_id: the id that the service gave out
    :param number: the how-manieth accepted POST it is, from 0
    :param model: the model's slug
    :param via: ``v1`` (synchronous) or ``v2``
    :param image: what tells one input image from another: a URL without its query, else the sha256 of the image
    :param source: the text that a fault's ``image`` is looked for in: the URL as sent, and the other texts
    :param body_sha256: the digest of the request's body as it came over the wire
    :param created: when it was accepted, epoch seconds
    :param seconds: how long it takes
    :param listed: when the request history begins to list it
    :param planned_error: a fault decided that it fails with this text
    :param finished: when it ended, ``None`` while it runs
    :param error: why it failed
    :param cost: what it was billed, 0 for a failed one
    :param remaining_credits: the balance after it
    :param files: the names of its result files
    :param text: the output of a text model
    :param downloads: how often each result file was asked for
    :param record_gone: a fault ended its record early
    :param files_gone: a fault ended its files early
    """

    request_id: str
    number: int
    model: str
    via: str
    image: str
    source: str
    body_sha256: str
    created: float
    seconds: float
    listed: float
    planned_error: str | None = None
    finished: float | None = None
    error: str | None = None
    cost: float = 0.0
    remaining_credits: float | None = None
    files: list[str] = field(default_factory=list)
    text: str | None = None
    downloads: dict[str, int] = field(default_factory=dict)
    record_gone: bool = False
    files_gone: bool = False

    def state(self, now: float) -> State:
        """
        Tell the job's state at a time.

        :param now: epoch seconds
        """
        if self.finished is not None:
            return "COMPLETED" if self.error is None else "FAILED"
        return "QUEUED" if now < self.created + self.seconds * QUEUE_SHARE else "PROCESSING"

    def times(self) -> dict[str, float]:
        """Return the three times that the service reports about a finished job."""
        total = (self.finished or self.created) - self.created
        queued = min(total, self.seconds * QUEUE_SHARE)
        return {
            "inference_time": round(total - queued, 3),
            "queue_time": round(queued, 3),
            "total_time": round(total, 3),
        }

    def as_dict(self, now: float) -> dict[str, Any]:
        """
        Return all that is known about the job, for introspection.

        :param now: epoch seconds
        """
        return {**dataclasses.asdict(self), "state": self.state(now)}


def new_request_id() -> str:
    """Return an id that no other job has, in this life of the emulator or in an earlier one."""
    return str(uuid.uuid4())


def image_identity(payload: dict[str, Any]) -> str:
    """
    Tell which image a request is about.

    :param payload: the request's parameters
    """
    image = next((payload[name] for name in IMAGE_PARAMETERS if isinstance(payload.get(name), str)), "")
    if not image:
        return ""
    if is_url(image):
        # A presigned URL differs from POST to POST in its query alone. (Cut by hand: what was sent may be no URL.)
        return image.partition("#")[0].partition("?")[0]
    try:
        content = decode_inline(image)
    except InputRefusedError:
        content = image.encode(errors="surrogatepass")
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def matchable_text(payload: dict[str, Any]) -> str:
    """
    Return the text of a request that a fault's ``image`` is looked for in.

    :param payload: the request's parameters
    """
    texts = [value[:4096] for value in payload.values() if isinstance(value, str)]
    return "\n".join([image_identity(payload), *texts])


class JobStore:
    """
    All jobs, in memory for reading and in a file for the next life.

    :param folder: where the file lies, beside a folder for the result files
    """

    def __init__(self, folder: Path) -> None:
        self._jobs: dict[str, Job] = {}
        self._by_file: dict[str, Job] = {}
        self._spent = 0.0
        self.files = folder / "generations"
        self.files.mkdir(exist_ok=True)
        self._database = sqlite3.connect(folder / "jobs.sqlite3", isolation_level=None)
        try:
            self._load()
        except sqlite3.Error:  # of a file that is none of ours
            self._database.close()
            raise

    def _load(self) -> None:
        # What is committed survives the death of the process. The disk is never waited for: the death of the machine
        # is not emulated, and tests start hundreds of emulators.
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS jobs (request_id TEXT PRIMARY KEY, number INTEGER, facts TEXT, body TEXT)"
        )
        for (facts,) in self._database.execute("SELECT facts FROM jobs ORDER BY number"):
            job = Job(**json.loads(facts))
            self._remember(job)
            self._spent += job.cost

    def _remember(self, job: Job) -> None:
        self._jobs[job.request_id] = job
        for name in job.files:
            self._by_file[name] = job

    def add(self, job: Job, payload: dict[str, Any]) -> None:
        """
        Keep a new job; once this returns it is accepted.

        :param job: the job
        :param payload: its parameters as sent
        """
        facts, body = json.dumps(dataclasses.asdict(job)), json.dumps(payload)
        self._database.execute("INSERT INTO jobs VALUES (?, ?, ?, ?)", (job.request_id, job.number, facts, body))
        self._remember(job)

    def save(self, job: Job) -> None:
        """
        Keep what changed about a job.

        :param job: the job
        """
        self._database.execute(
            "UPDATE jobs SET facts = ? WHERE request_id = ?",
            (json.dumps(dataclasses.asdict(job)), job.request_id),
        )
        self._remember(job)

    def bill(self, job: Job, cost: float, credits_before: float) -> None:
        """
        Take what a completed job costs from the balance.

        :param job: the job
        :param cost: what it costs, in USD
        :param credits_before: the balance that the account began with
        """
        self._spent += cost
        job.cost = cost
        job.remaining_credits = round(credits_before - self._spent, 6)

    def request_body(self, request_id: str) -> dict[str, Any]:
        """
        Return the parameters of a job as they were sent.

        :param request_id: the job's id
        """
        (body,) = self._database.execute("SELECT body FROM jobs WHERE request_id = ?", (request_id,)).fetchone()
        payload: dict[str, Any] = json.loads(body)
        return payload

    def get(self, request_id: str) -> Job | None:
        """
        Return a job, however old.

        :param request_id: the job's id
        """
        return self._jobs.get(request_id)

    def of_file(self, name: str) -> Job | None:
        """
        Return the job that a result file belongs to.

        :param name: the file's name
        """
        return self._by_file.get(name)

    def all(self) -> list[Job]:
        """Return every job in the order of acceptance."""
        return list(self._jobs.values())

    def spent(self) -> float:
        """Return what all jobs together were billed."""
        return round(self._spent, 6)

    def __len__(self) -> int:
        return len(self._jobs)

    def posts_per_image(self) -> Counter[str]:
        """Count the accepted POSTs of each image."""
        return Counter(job.image for job in self.all())

    def close(self) -> None:
        """Close the file."""
        self._database.close()
