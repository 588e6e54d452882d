"""Tasks of several runs that share one ledger: each process has its own view of it, and all see the same documents."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from airflow_provider_segmind.api.models import JobOutcome
from airflow_provider_segmind.api.operation import ApiContext, Operation, Pause, Request, pause
from airflow_provider_segmind.exceptions import SegmindStorageError, SegmindSubmitPendingError
from airflow_provider_segmind.files.documents import Document
from airflow_provider_segmind.jobs.acquire import AcquiredJob, Submission, acquire_job
from airflow_provider_segmind.jobs.checkpoint import Checkpoint
from airflow_provider_segmind.jobs.ledger import Ledger, LedgerCheckpoints
from tests.model.service_model import MODEL, Clock, ServiceModel
from tests.model.tasks import Crash, Task, body_of

LONGEST_SUBMIT = 60.0
"""Seconds after which a POST of a living process has reached the service, or never will."""


class SharedDocuments:
    """What the store holds, which request ids were ever in it, and who is told of each write."""

    def __init__(self) -> None:
        self.written: Callable[[LedgerTask, dict[str, Any]], None] = lambda task, entry: None
        self.contents: dict[str, Document] = {}
        self.ids: set[str] = set()
        self.writes = 0

    def put(self, task: LedgerTask, name: str, data: bytes) -> str:
        self.writes += 1
        self.contents[name] = Document(data, str(self.writes))
        entry = json.loads(data)
        if entry["request_id"] is not None:
            self.ids.add(entry["request_id"])
        self.written(task, entry)
        return str(self.writes)


class DocumentsOfTask:
    """
    The shared documents as the processes of one task reach them.

    ``crash_at`` counts writes down; at zero the process dies before or after. ``lose_at`` counts them down too; at zero
    the document is written, and the store's response is an error. While it is not ``readable``, reading fails.
    """

    def __init__(self, task: LedgerTask, shared: SharedDocuments) -> None:
        self.task = task
        self.shared = shared
        self.crash_at: int | None = None
        self.lose_at: int | None = None
        self.crash_after = False
        self.readable = True
        self.ids: set[str] = set()  # of no use here: the base class clears it

    def read(self, name: str) -> Document | None:
        if not self.readable:
            raise SegmindStorageError("the store is away")
        return self.shared.contents.get(name)

    def create(self, name: str, data: bytes) -> str | None:
        return self._write(name, data, None)

    def replace(self, name: str, data: bytes, version: str) -> str | None:
        return self._write(name, data, version)

    def label_of(self, name: str) -> str:
        return name

    def _write(self, name: str, data: bytes, version: str | None) -> str | None:
        dies, self.crash_at = self.crash_at == 0, None if self.crash_at is None else self.crash_at - 1
        lost, self.lose_at = self.lose_at == 0, None if not self.lose_at else self.lose_at - 1
        if dies and not self.crash_after:
            raise Crash
        present = self.shared.contents.get(name)
        written = None
        if (present.version if present else None) == version:
            written = self.shared.put(self.task, name, data)
        if dies:
            raise Crash
        if lost:
            raise SegmindStorageError("the response was lost")
        return written


class WatchedClock(Clock):
    """A clock that tells before it moves, so that no request stays on its way for longer than one can."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[float], None] = lambda moment: None

    def advance(self, seconds: float) -> None:
        self.before(self.now + seconds)
        super().advance(seconds)

    def reach(self, moment: float) -> None:
        if moment > self.now:
            self.before(moment)
        super().reach(moment)


class LedgerTask(Task):
    """
    A task of one run over the shared ledger, with a destination of its own.

    :ivar name: of its run; a new run has another one
    :ivar waits: called when the ledger has told it of a job, which the ledger must remember
    :ivar stores: called with the content of a file that it has stored
    """

    def __init__(
        self, name: str, image: int, clock: Clock, model: ServiceModel, jitter: Any, shared: SharedDocuments
    ) -> None:
        self.name = name
        self.waits: Callable[[LedgerTask], None] = lambda task: None
        self.stores: Callable[[LedgerTask, bytes], None] = lambda task, content: None
        self._file: bytes | None = None
        self._view: LedgerCheckpoints | None = None
        self.stepping = False
        super().__init__(image, clock, model, jitter)
        self.store: Any = DocumentsOfTask(self, shared)

    @property
    def file(self) -> bytes | None:
        return self._file

    @file.setter
    def file(self, content: bytes | None) -> None:
        self._file = content
        if content is not None:
            self.stores(self, content)

    @property
    def checkpoints(self) -> LedgerCheckpoints:
        """The view of the process that runs; a clear raises a task's number of allowed tries."""
        if self._view is None:
            ledger = Ledger(self.store, self.clock)
            self._view = ledger.checkpoints(consumer=self.name, max_tries=self.life)
        return self._view

    def submit_is_late_at(self, moment: float) -> bool:
        """Whether a POST of this process would have been on its way for longer than one can be."""
        run = self.run
        if run is None or self.stepping or not isinstance(run.waits_for, Request) or run.waits_for.method != "POST":
            return False
        return moment - run.asked_at > LONGEST_SUBMIT

    def start(self, mode: Any = "reconcile") -> None:
        self._view = None
        super().start(mode)

    def step(self) -> None:
        self.stepping = True
        try:
            super().step()
        finally:
            self.stepping = False

    def _next_process(self) -> None:
        self._view = None
        super()._next_process()

    def _acquire(self, mode: Any) -> Operation[AcquiredJob]:
        """Submit as ``JobRun`` does: look again where another task is submitting."""
        submission = Submission(
            MODEL,
            self.digest(),
            lambda: body_of(self.image, self.tries),
            on_unknown_submit=mode,
            deadline=self._deadline,
        )
        api = self._api()
        while True:
            self.checkpoints.about(self.digest(), "", self.account)
            try:
                checkpoint = submission.match(self.checkpoints.read())
                if checkpoint is not None:
                    self.waits(self)
                yield Pause(0.1)  # the image is looked at and uploaded
                return (yield from acquire_job(api, self.checkpoints, submission, checkpoint))
            except SegmindSubmitPendingError as pending:
                self.waits(self)
                if pending.look_at >= self._deadline:
                    raise
                yield from pause(pending.look_at - self.clock())
            if self.tries % 2:
                self._view = None  # it has waited on the triggerer

    def _finish(self, api: ApiContext, outcome: JobOutcome, checkpoint: Checkpoint | None) -> Operation[None]:
        self.checkpoints.remember(checkpoint)
        yield from super()._finish(api, outcome, checkpoint)
