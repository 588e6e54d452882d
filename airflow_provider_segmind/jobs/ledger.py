"""
The ledger: paid jobs, remembered by what was bought and not by who asked for it.

Its rule: *a paid job that is not delivered is never bought again, by no task, run, DAG or Airflow.* An entry is one
small document, named by what makes an image the same purchase: the service's host, the model, the flags, and the
image with its identity. The key is not part of the name, because a rotated key must find its jobs.

========== ============================================================================================================
submitting A task has written what it is about to POST, or has died since. Another task waits as long as that POST may
           be accepted, then looks for its request in the history, and goes on as the first would have.
submitted  The job is paid for, and nobody has its result yet. Every task that asks gets this job.
delivered  Somebody has stored the result. For a task that asks for the first time there is no job. A task that has been
           waiting for this one still gets it, and so does the one that has stored it, if it is retried: a worker died
           before Airflow knew of the success. If a user has cleared it, it gets a new image.
forgotten  The job failed or is lost, or nothing was queued. There is no job. The entry stays, since a deletion could
           hit what another task has written in the meantime.
========== ============================================================================================================

Each write names the version that was read before it (``files/documents.py``), so of two tasks that go on from the same
state one succeeds, and the other reads again. What the loser does:

* Before its POST it does not send it.
* After its POST it logs an error and goes on with the job that it has paid for. That takes a process that was stopped
  for about two minutes between the write of *submitting* and the POST.

A process may die between any two steps:

* after *submitting*, before the POST: the next task waits up to three minutes and finds nothing in the history;
* after the POST, before *submitted*: the next task finds the request in the history and adopts the job;
* after *submitted*, before *delivered*: the next task adopts the job, and stores its result at its own destination;
* after *delivered*, before Airflow knows of the success: the retry stores the same result again and pays nothing.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from airflow_provider_segmind.exceptions import (
    SegmindCheckpointError,
    SegmindStorageError,
    SegmindSubmitPendingError,
)
from airflow_provider_segmind.files.documents import Document, DocumentStore, open_documents, parse_prefix
from airflow_provider_segmind.jobs.acquire import SUBMIT_ENDS_WITHIN
from airflow_provider_segmind.jobs.checkpoint import DELIVERED_KEPT_FOR, Checkpoint
from airflow_provider_segmind.jobs.ledger_entry import Entry, EntryState, entry_name, entry_prefix, unreadable_entry

PENDING_PAUSE = 10.0
"""Seconds after which a task looks again what became of another one's submit, which mostly takes less than one."""

_MAX_RACES = 20  # of one change with those of other tasks


class Ledger:
    """
    The jobs that are remembered below one prefix. Safe to use from threads.

    :param clock: returns epoch seconds
    """

    def __init__(self, documents: DocumentStore, clock: Callable[[], float] = time.time) -> None:
        self.documents = documents
        self.clock = clock

    def checkpoints(self, *, consumer: str, max_tries: int | None = None) -> LedgerCheckpoints:
        """
        Return the checkpoint store of one job of one task.

        :param consumer: tells the task from others, in a retry too; see :func:`consumer_of`
        :param max_tries: the number of the task's last allowed try, which only a user's Clear raises. ``None``: unknown
        """
        return LedgerCheckpoints(self, consumer, max_tries)


def open_ledger(
    location: object, *, aws_conn_id: str | None = None, s3_extra_args: Mapping[str, Any] | None = None
) -> Ledger:
    """
    Return the ledger below a prefix. Nothing is opened yet.

    :param location: as the user gave it
    :raises SegmindInputError: it cannot be a prefix
    """
    prefix = parse_prefix("ledger", location)
    return Ledger(open_documents(prefix, aws_conn_id=aws_conn_id, s3_extra_args=s3_extra_args))


def consumer_of(*names: object) -> str:
    """Return what tells a task instance from all others: a digest of its DAG, run, task and map index."""
    return hashlib.sha256(json.dumps(names, default=str).encode()).hexdigest()[:16]


class LedgerCheckpoints:
    """
    The checkpoint of one job as one task sees it; a :class:`~airflow_provider_segmind.jobs.checkpoint.CheckpointStore`.

    It holds the version that it has read or written last, so it belongs to one job of one process.
    """

    durable = True

    def __init__(self, ledger: Ledger, consumer: str, max_tries: int | None) -> None:
        self._documents = ledger.documents
        self._clock = ledger.clock
        self._consumer = consumer
        self._max_tries = max_tries
        self._prefix = ""
        self._name: str | None = None
        self._seen: tuple[str | None, Entry | None] | None = None  # the version and the entry; None: not read yet
        self._ours: Checkpoint | None = None  # the job that this process works on

    @property
    def how_to_forget(self) -> str:
        """What a user can do to pay for a new job instead."""
        return f"delete the ledger's entry {self._label}"

    @property
    def _label(self) -> str:
        return self._documents.label_of(self._name or f"{self._prefix}*.json")

    # ------------------------------------------------------------------ which job

    def about(self, input_digest: str, image_identity: str | None, account: str) -> None:
        """Say which job it is about; without the image's identity its entry is searched for when it is read."""
        prefix = entry_prefix(account, input_digest)
        name = None if image_identity is None else entry_name(account, input_digest, image_identity)
        if (prefix, name) != (self._prefix, self._name):
            self._prefix, self._name = prefix, name
            self._seen = self._ours = None

    def remember(self, checkpoint: Checkpoint | None) -> None:
        """Go on with the job that a deferral has carried."""
        if checkpoint is not None:
            self.about(checkpoint.input_digest, checkpoint.image_identity or "", checkpoint.account)
            self._ours = checkpoint

    # ------------------------------------------------------------------ read

    def read(self) -> Checkpoint | None:
        """
        Return the job that this task goes on with, and note that it waits for the result.

        :raises SegmindSubmitPendingError: another task is submitting it
        :raises SegmindCheckpointError: there may be a job, and its entry cannot be read
        """
        self._ours = None
        if not self._prefix:
            return None  # the task was resumed by a trigger that carries no checkpoint
        for _ in range(_MAX_RACES):
            entry = self._look_up()
            if entry is None or not self._is_for_this_task(entry):
                return None
            is_known = self._consumer in entry.waiting or entry.state is EntryState.DELIVERED
            if is_known or self._put(entry.awaited_by(self._consumer)):
                self._refuse_while_submitting(entry)
                self._ours = entry.checkpoint
                return self._ours
        raise self._too_many_races()

    def _is_for_this_task(self, entry: Entry) -> bool:
        if entry.state is not EntryState.DELIVERED:
            return entry.state is not EntryState.FORGOTTEN
        if self._consumer in entry.waiting:
            return True
        tries, at = entry.delivered_to.get(self._consumer, (None, 0.0))
        is_recent = self._clock() - at < DELIVERED_KEPT_FOR.total_seconds()
        return tries is not None and tries == self._max_tries and is_recent

    def _refuse_while_submitting(self, entry: Entry) -> None:
        """Raise where the POST of another task may still be accepted."""
        until = entry.checkpoint.submitted_at + SUBMIT_ENDS_WITHIN
        if entry.state is EntryState.SUBMITTING and entry.owner != self._consumer and self._clock() < until:
            raise self._pending(until)

    def _pending(self, until: float) -> SegmindSubmitPendingError:
        return SegmindSubmitPendingError(
            f"Another task is submitting the same job (the ledger's entry {self._label}); nothing was submitted.",
            until=max(until, self._clock()),
            look_at=min(max(until, self._clock()), self._clock() + PENDING_PAUSE),
        )

    @property
    def delivered_before(self) -> bool:
        """Whether the entry says that a job for the same image has been stored, by this task or another."""
        entry = self._seen[1] if self._seen else None
        return entry is not None and entry.state is EntryState.DELIVERED

    def submit_ended_by(self, checkpoint: Checkpoint) -> float | None:
        """Return when a POST has ended at the latest, whichever task sent it."""
        return checkpoint.submitted_at + SUBMIT_ENDS_WITHIN

    def _look_up(self) -> Entry | None:
        """Read the entry."""
        if self._name is not None:
            self._seen = self._read(self._name)
            return self._seen[1]
        # The image cannot be read any more. The newest job for the same inputs that this task may go on with is its.
        found: list[tuple[Entry, str, tuple[str | None, Entry | None]]] = []
        for name in self._documents_or_error(lambda documents: documents.names(self._prefix)):
            seen = self._read(name)
            if seen[1] is not None and self._is_for_this_task(seen[1]):
                found.append((seen[1], name, seen))
        if not found:
            return None
        entry, self._name, self._seen = max(found, key=lambda each: each[0].checkpoint.submitted_at)
        return entry

    def _read(self, name: str) -> tuple[str | None, Entry | None]:
        document: Document | None = self._documents_or_error(lambda documents: documents.read(name))
        if document is None:
            return None, None
        label = self._documents.label_of(name)
        return document.version, Entry.parse(document.data, lambda why: unreadable_entry(label, why))

    def _documents_or_error(self, ask: Callable[[DocumentStore], Any]) -> Any:
        """Read from the store. Where it fails there may be a job, so that is not taken for none."""
        try:
            return ask(self._documents)
        except SegmindStorageError as error:
            raise SegmindCheckpointError(
                f"The ledger could not be read: {error} A job that is paid for may be in it, so nothing was submitted. "
                "A retry reads it again."
            ) from error

    # ------------------------------------------------------------------ write

    def write(self, checkpoint: Checkpoint) -> None:
        """
        Write *submitting* or *submitted*. Chaos seam: intent_to_post, post_to_checkpoint.

        :raises SegmindSubmitPendingError: another task has written *submitting* first; nothing may be posted
        """
        before, seen = self._entry(), self._seen
        for _ in range(_MAX_RACES):
            if self._put(self._entry_for(checkpoint).awaited_by(self._consumer)):
                self._ours = checkpoint
                return
            present = self._look_up()
            is_free = present is None or present.has_request(checkpoint) or present.says_the_same_as(before)
            if not is_free:
                break
        try:
            if checkpoint.request_id is None:
                raise self._wait_for_other()
        finally:
            self._seen, self._ours = seen, None  # so that no later write goes on from what another task has written
        raise SegmindCheckpointError(
            f"The ledger's entry {self._label} was changed by another task while request {checkpoint.request_id} was "
            "submitted. Both jobs may be billed."
        )

    def _wait_for_other(self) -> SegmindSubmitPendingError:
        """
        Note that this task waits for the job of the one that has written first, and return the error that says so.

        It gets that job, or the next one, even if that is delivered before it looks again: it asked before there was
        one.
        """
        for _ in range(_MAX_RACES):
            entry = self._look_up()
            if entry is None:
                return self._pending(0.0)
            if self._consumer in entry.waiting or self._put(entry.awaited_by(self._consumer)):
                is_submitting = entry.state is EntryState.SUBMITTING
                return self._pending(entry.checkpoint.submitted_at + SUBMIT_ENDS_WITHIN if is_submitting else 0.0)
        raise self._too_many_races()

    def _entry_for(self, checkpoint: Checkpoint) -> Entry:
        """Return the entry of a new state, made from the one that was seen last."""
        present = self._entry()
        if present is not None and present.has_request(checkpoint):
            return present  # another task has adopted the same job
        # The tasks that wait for the image or have stored it are kept, so that none of them pays for another one.
        return Entry(
            EntryState.SUBMITTED if checkpoint.request_id else EntryState.SUBMITTING,
            checkpoint,
            self._consumer,
            present.waiting if present else (),
            present.delivered_to if present else {},
        )

    def mark_delivered(self, checkpoint: Checkpoint | None) -> None:
        """Say that this task has stored the result. Chaos seam: stored_to_delivered."""
        if checkpoint is None:
            return
        self.remember(checkpoint)
        for _ in range(_MAX_RACES):
            entry = self._entry()
            if entry is None or not entry.is_about(checkpoint):
                entry = self._look_up()  # the response to the write of the request id may have been lost
            if entry is None or not entry.is_about(checkpoint):
                return  # a new run has bought the image again, or a person has deleted the entry
            delivered = replace(entry, checkpoint=checkpoint)
            if self._put(delivered.after_delivery(self._consumer, self._max_tries, self._clock())):
                return
            self._look_up()
        raise self._too_many_races()

    def settle_stored(self, request_id: str, since: float) -> bool:
        """
        Return whether this task has stored a request's result, which is at its destination, since a moment.

        A job whose process died between that and the ledger's *delivered* is marked delivered now.
        """
        entry = self._entry()
        if entry is None or entry.checkpoint.request_id != request_id:
            return False
        if entry.state is EntryState.SUBMITTED and self._consumer in entry.waiting:
            self.mark_delivered(entry.checkpoint)
            return True
        return entry.delivered_to.get(self._consumer, (None, 0.0))[1] >= since

    def forget(self) -> None:
        """Say that the job has nothing to give, unless its entry is about another job by now."""
        if self._ours is None:
            return
        seen = self._seen
        for _ in range(_MAX_RACES):
            entry = self._entry()
            if entry is None or not entry.is_about(self._ours):
                self._seen = seen or self._seen  # as in `write`
                return
            if entry.state is EntryState.FORGOTTEN or self._put(replace(entry, state=EntryState.FORGOTTEN)):
                return
            self._look_up()
        raise self._too_many_races()

    def _entry(self) -> Entry | None:
        """Return the entry as it was seen last, read now where it has not been."""
        return self._look_up() if self._seen is None else self._seen[1]

    def _put(self, entry: Entry) -> bool:
        """
        Write the entry over the version that was seen last; return whether it was still that version.

        Chaos seam: ledger_submitting, ledger_submitted, ledger_delivered.
        """
        assert self._name is not None  # noqa: S101 - an image that cannot be read is not submitted
        assert self._seen is not None  # noqa: S101 - nothing is written before the entry was read
        data, version = entry.as_json(), self._seen[0]
        documents = self._documents
        written = (
            documents.create(self._name, data) if version is None else documents.replace(self._name, data, version)
        )
        if written is None:
            return False
        self._seen = written, entry
        return True

    def _too_many_races(self) -> SegmindStorageError:
        return SegmindStorageError(
            f"The ledger's entry {self._label} is being changed by other tasks all the time. Try again later."
        )
