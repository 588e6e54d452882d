"""The accepted jobs, kept in SQLite so that they survive a crash of the emulator."""

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

from airflow_provider_segmind.emulator.input_images import InvalidInputError, decode_inline, is_url

State = Literal["QUEUED", "PROCESSING", "COMPLETED", "FAILED"]

IMAGE_PARAMETERS = ("image", "image_url", "input_image")
QUEUE_SHARE = 0.05  # the share of its time that a job is QUEUED


@dataclass(slots=True)
class JobPlan:
    """
    What faults have decided about a job before it exists; ``None`` leaves it to the settings and the input.

    :param seconds: how long the job takes
    :param error: the text with which the job fails
    :param history_delay: seconds until the request history lists it
    """

    seconds: float | None = None
    error: str | None = None
    history_delay: float | None = None


@dataclass(slots=True)
class Job:
    """
    One accepted POST. Points in time are epoch seconds, durations are seconds.

    :param request_id: the id in the response to the POST
    :param number: its position among the accepted POSTs, from 0
    :param model: the model's slug
    :param via: ``v1`` (synchronous) or ``v2``
    :param image: the identity of its input image, see :func:`image_identity`
    :param source: the text in which a fault's ``image`` is searched, see :func:`matchable_text`
    :param body_sha256: the SHA-256 of the request's body as received
    :param created: when it was accepted
    :param seconds: how long it takes
    :param listed: when the request history starts to list it
    :param planned_error: the text with which a fault makes it fail
    :param finished: when it ended, ``None`` while it runs
    :param error: why it failed
    :param cost: what it was billed in USD, 0 if it failed
    :param remaining_credits: the balance after it, in USD
    :param files: the names of its result files
    :param text: the output of a text model
    :param downloads: the number of downloads of each result file
    :param record_gone: a fault has expired its record
    :param files_gone: a fault has expired its files
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
        Return the job's state at a given time.

        :param now: epoch seconds
        """
        if self.finished is not None:
            return "COMPLETED" if self.error is None else "FAILED"
        return "QUEUED" if now < self.created + self.seconds * QUEUE_SHARE else "PROCESSING"

    def times(self) -> dict[str, float]:
        """Return the three durations that the API reports for a finished job, in seconds."""
        total = (self.finished or self.created) - self.created
        queued = min(total, self.seconds * QUEUE_SHARE)
        return {
            "inference_time": round(total - queued, 3),
            "queue_time": round(queued, 3),
            "total_time": round(total, 3),
        }

    def as_dict(self, now: float) -> dict[str, Any]:
        """
        Return all fields and the state, for ``GET /emulator/jobs``.

        :param now: epoch seconds
        """
        return {**dataclasses.asdict(self), "state": self.state(now)}


def new_request_id() -> str:
    """Return an id that is unique across restarts of the emulator."""
    return str(uuid.uuid4())


def image_identity(payload: dict[str, Any]) -> str:
    """
    Return what identifies a request's input image: its URL without the query, or ``sha256:...`` of inline data.

    :param payload: the request's parameters
    :return: an empty string if the request has no image
    """
    image = next((payload[name] for name in IMAGE_PARAMETERS if isinstance(payload.get(name), str)), "")
    if not image:
        return ""
    if is_url(image):
        # Presigned URLs of one image differ in their query only. Not urlsplit, which raises on malformed URLs.
        return image.partition("#")[0].partition("?")[0]
    try:
        content = decode_inline(image)
    except InvalidInputError:
        content = image.encode(errors="surrogatepass")
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def matchable_text(payload: dict[str, Any]) -> str:
    """
    Return the text of a request in which a fault's ``image`` is searched: the identity and all text parameters.

    :param payload: the request's parameters
    """
    texts = [value[:4096] for value in payload.values() if isinstance(value, str)]
    return "\n".join([image_identity(payload), *texts])


class JobStore:
    """
    All jobs, in memory for reading and in an SQLite file for the next start.

    :param folder: contains the SQLite file and the folder of the result files
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
        except sqlite3.Error:  # the file is not one of ours
            self._database.close()
            raise

    def _load(self) -> None:
        # Commits survive a crash of the process. They need not survive a crash of the machine, and not waiting for
        # the disk keeps the start fast: tests start hundreds of emulators.
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS jobs (request_id TEXT PRIMARY KEY, number INTEGER, facts TEXT, body TEXT)"
        )
        for (facts,) in self._database.execute("SELECT facts FROM jobs ORDER BY number"):
            job = Job(**json.loads(facts))
            self._index(job)
            self._spent += job.cost

    def _index(self, job: Job) -> None:
        self._jobs[job.request_id] = job
        for name in job.files:
            self._by_file[name] = job

    def add(self, job: Job, payload: dict[str, Any]) -> None:
        """
        Store a new job; once this returns, the job is accepted.

        :param job: the job
        :param payload: its parameters as sent
        """
        facts, body = json.dumps(dataclasses.asdict(job)), json.dumps(payload)
        self._database.execute("INSERT INTO jobs VALUES (?, ?, ?, ?)", (job.request_id, job.number, facts, body))
        self._index(job)

    def save(self, job: Job) -> None:
        """
        Store the changes to a job.

        :param job: the job
        """
        self._database.execute(
            "UPDATE jobs SET facts = ? WHERE request_id = ?",
            (json.dumps(dataclasses.asdict(job)), job.request_id),
        )
        self._index(job)

    def bill(self, job: Job, cost: float, initial_credits: float) -> None:
        """
        Bill a completed job.

        :param job: the job
        :param cost: its price in USD
        :param initial_credits: the account's balance at the start in USD
        """
        self._spent += cost
        job.cost = cost
        job.remaining_credits = round(initial_credits - self._spent, 6)

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
        Return a job of any age.

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
        """Return all jobs in the order in which they were accepted."""
        return list(self._jobs.values())

    def spent(self) -> float:
        """Return the total billed for all jobs in USD."""
        return round(self._spent, 6)

    def __len__(self) -> int:
        return len(self._jobs)

    def posts_per_image(self) -> Counter[str]:
        """Count the accepted POSTs of each image."""
        return Counter(job.image for job in self.all())

    def close(self) -> None:
        """Close the SQLite file."""
        self._database.close()
