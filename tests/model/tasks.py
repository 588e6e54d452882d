"""A task across tries and crashes: its checkpoint and the operations of its parts, driven step by step."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from airflow_provider_segmind.api.download import download
from airflow_provider_segmind.api.models import JobOutcome
from airflow_provider_segmind.api.operation import (
    ApiContext,
    Operation,
    Pause,
    RenewKey,
    Request,
    TransportFailure,
    pause,
)
from airflow_provider_segmind.api.polling import watch
from airflow_provider_segmind.exceptions import SegmindCheckpointError, SegmindError, SegmindStorageError
from airflow_provider_segmind.files.formats import ResultFile
from airflow_provider_segmind.jobs.acquire import AcquiredJob, Submission, acquire_job
from airflow_provider_segmind.jobs.checkpoint import Checkpoint, ResumeEvent, TaskCheckpoints, input_digest
from airflow_provider_segmind.jobs.collect import collect
from tests.model.service_model import MODEL, Clock, ServiceModel

MAX_STEPS = 600
"""No run of an operation takes more requests and pauses than this."""

LONGEST_ON_THE_WAY = 10.0
"""Seconds that a request of a dead process takes to be accepted; nothing is promised for longer ones."""

KEY = "SG_0123456789abcdef"


class Crash(BaseException):
    """The process is gone."""


class Store:
    """
    Airflow's task state store: JSON that survives. ``crash_at`` counts writes and deletions down; at zero the process
    dies before or after. While it is not ``readable``, reading it fails.
    """

    def __init__(self) -> None:
        self.stored: str | None = None
        self.crash_at: int | None = None
        self.crash_after = False
        self.ids: set[str] = set()
        self.readable = True
        self.written: Callable[[dict[str, Any]], None] = lambda checkpoint: None

    def get(self, key: str) -> Any:
        if not self.readable:
            raise ConnectionError("the API server is away")
        return None if self.stored is None else json.loads(self.stored)

    def set(self, key: str, value: Any, **_: Any) -> None:
        self._change(json.dumps(value, allow_nan=False))

    def delete(self, key: str) -> None:
        self._change(None)

    def _change(self, stored: str | None) -> None:
        dies = self.crash_at == 0
        if self.crash_at is not None:
            self.crash_at -= 1
        if dies and not self.crash_after:
            raise Crash
        self.stored = stored
        if stored is not None:
            checkpoint = json.loads(stored)
            if checkpoint["request_id"] is not None:
                self.ids.add(checkpoint["request_id"])
            self.written(checkpoint)
        if dies:
            raise Crash


def body_of(image: int, signature: object = "") -> dict[str, Any]:
    """What the operator posts: an even image by an address with a new signature each time, an odd one inline."""
    if image % 2:
        source = base64.b64encode(bytes([image]) * 60 + bytes(range(240))).decode()
    else:
        source = f"https://photos.s3.amazonaws.com/{image}.png?X-Amz-Signature={signature}"
    return {"image": source, "preserve_alpha": True}


def image_of(body: dict[str, Any]) -> int:
    """Read a posted body as the service would."""
    source = body["image"]
    if source.startswith("https://"):
        return int(source.rpartition("/")[2].partition(".")[0])
    return base64.b64decode(source)[0]


class Run:
    """An operation under way. One step: the response that it waits for goes in, its next request or pause comes out."""

    def __init__(self, operation: Operation[Any], model: ServiceModel, sender: Task) -> None:
        self._operation, self._model, self._sender = operation, model, sender
        self._clock = model.clock
        self.waits_for: Any = None
        self._due = 0.0
        self.asked_at = self._clock()
        self._steps = 0
        self.done = False
        self.value: Any = None

    def step(self) -> None:
        self._steps += 1
        assert self._steps <= MAX_STEPS, "an operation without end"
        try:
            if self.waits_for is None:
                asked = next(self._operation)
            elif isinstance(self.waits_for, Pause):
                self._clock.reach(self._due)
                asked = self._operation.send(None)
            elif isinstance(self.waits_for, RenewKey):
                asked = self._operation.send(True)  # the key was rotated while the job waited
            else:
                try:
                    answer = self._model.handle(self.waits_for, self._sender)
                except TransportFailure as failure:
                    asked = self._operation.throw(failure)
                else:
                    asked = self._operation.send(answer)
        except StopIteration as stop:
            self.done, self.value = True, stop.value
            return
        self.asked_at = self._clock()
        if isinstance(asked, Pause):
            assert 0.0 <= asked.seconds <= 3700.0
            self._due = self._clock() + asked.seconds
        self.waits_for = asked

    def kill(self, *, in_flight: bool) -> None:
        """End the process; ``in_flight``: the request that it waits for reaches the service first, if it is fresh."""
        if self._clock() - self.asked_at > LONGEST_ON_THE_WAY:
            in_flight = False
        if in_flight and isinstance(self.waits_for, Request):
            with suppress(TransportFailure, SegmindError):
                self._model.handle(self.waits_for, self._sender)
        self._operation.close()


class Task:
    """
    One task instance.

    :ivar stage: ``idle`` (a try may start), ``submit``, ``waiting`` (on the triggerer), ``event`` (the store part may
        start), ``store``, ``done``
    :ivar life: counts the images that the user has asked for: clears after a success, changes of the input
    :ivar account: of the connection
    :ivar mode: the present try's ``on_unknown_submit``
    """

    def __init__(self, image: int, clock: Clock, model: ServiceModel, jitter: Callable[[float, float], float]) -> None:
        self.image = image
        self.clock, self.model, self.jitter = clock, model, jitter
        self.store = Store()
        self.store.written = self._forgive_what_the_user_pays_again
        self.stage = "idle"
        self.life = 0
        self.account = "a"
        self.mode: Any = "reconcile"
        self.storage_up = True
        self.file: bytes | None = None
        self.tries = 0
        self.last_error: SegmindError | None = None
        self.run: Run | None = None
        self._acquired: AcquiredJob | None = None
        self._event = ""
        self._deadline = 0.0

    @property
    def checkpoints(self) -> TaskCheckpoints:
        """Each process has its own; Airflow raises a task's number of allowed tries with each clear."""
        return TaskCheckpoints(self.store, max_tries=self.life)

    def _api(self) -> ApiContext:
        """Each process has its own rate limiter."""
        return ApiContext(clock=self.clock, jitter=self.jitter, secrets=[KEY], account=self.account)

    def digest(self) -> str:
        return input_digest(MODEL, {"image": self.image})

    def _forgive_what_the_user_pays_again(self, checkpoint: dict[str, Any]) -> None:
        """With ``resubmit``, an intent replaces that of an unanswered submit, unless the earlier one is put back."""
        if self.mode == "resubmit" and checkpoint["request_id"] is None:
            for job in self.model.jobs:
                if job.sender is self and job.life == self.life and job.id not in self.store.ids:
                    job.forgiven = job.at < checkpoint["submitted_at"]

    def start(self, mode: Any = "reconcile") -> None:
        """Airflow starts a try."""
        assert self.stage == "idle"
        self.mode = mode
        self.tries += 1
        self._deadline = self.clock() + 600.0
        self.stage = "submit"
        try:
            self.run = Run(self._acquire(mode), self.model, self)
        except SegmindCheckpointError as error:
            self.last_error = error
            self.stage, self.run = "idle", None

    def _acquire(self, mode: Any) -> Operation[AcquiredJob]:
        submission = Submission(
            MODEL,
            self.digest(),
            lambda: body_of(self.image, self.tries),
            on_unknown_submit=mode,
            deadline=self._deadline,
        )
        checkpoint = submission.match(self.checkpoints.read())
        return acquire_job(self._api(), self.checkpoints, submission, checkpoint)

    def step(self) -> None:
        """Go one step on, into the next process where the present one has ended."""
        try:
            if self.run is None:
                self._next_process()
            assert self.run is not None
            self.run.step()
        except SegmindError as error:
            self.last_error = error
            self.stage, self.run = "idle", None
        except Crash:
            self.store.crash_at = None
            self.stage, self.run = "idle", None
        else:
            if self.run.done:
                self._ended(self.run.value)

    def _next_process(self) -> None:
        if self.stage == "waiting":
            assert self._acquired is not None
            job = self._acquired.job
            operation: Operation[Any] = watch(
                self._api(), job.request_id, job.model, submitted_at=job.submitted_at, deadline=self._deadline
            )
        else:
            assert self.stage == "event"
            self.stage = "store"
            event = ResumeEvent.parse(json.loads(self._event))
            operation = self._finish(self._api(), event.outcome(), event.checkpoint)
        self.run = Run(operation, self.model, self)

    def _ended(self, value: Any) -> None:
        self.run = None
        if self.stage == "submit":
            self._acquired = value
            if value.outcome is None:
                self.stage = "waiting"
            else:
                operation = self._finish(self._api(), value.outcome, value.checkpoint)
                self.stage, self.run = "store", Run(operation, self.model, self)
        elif self.stage == "waiting":
            assert self._acquired is not None
            event = ResumeEvent.of(value, self._acquired.checkpoint)
            self._event = json.dumps(event.as_json(), allow_nan=False)
            assert "X-Amz" not in self._event
            self.stage = "event"
        else:
            self.stage = "done"

    def crash(self, *, in_flight: bool) -> None:
        """The worker dies; where the triggerer does, another one takes the same wait over."""
        if self.run is not None:
            self.run.kill(in_flight=in_flight)
            self.run = None
            if self.stage != "waiting":
                self.stage = "idle"

    def ask_anew(self, image: int) -> None:
        """A user wants another image: clears after a success, or changes the input."""
        self.end_try()
        self.image, self.file = image, None
        self.life += 1
        self.store.ids.clear()

    def end_try(self) -> None:
        """A user clears the task, or marks it failed, wherever it is."""
        self.crash(in_flight=False)
        self.stage = "idle"

    def try_to_the_end(self) -> None:
        while self.stage not in ("idle", "done"):
            self.step()

    def _finish(self, api: ApiContext, outcome: JobOutcome, checkpoint: Checkpoint | None) -> Operation[None]:
        collected = yield from collect(api, self.checkpoints, outcome, checkpoint)
        file = io.BytesIO()
        yield from download(api, collected.result, ResultFile(file, max_bytes=api.max_result_bytes, image=True))
        yield from pause(0.1)
        if not self.storage_up:
            raise SegmindStorageError("the storage is down")
        self.file = file.getvalue()
        yield from pause(0.1)
        self.checkpoints.mark_delivered(checkpoint)
