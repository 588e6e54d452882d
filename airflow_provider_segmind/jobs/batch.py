"""
A batch: thousands of inputs in waves, worked through by one task.

A worker part submits as much as the rate limit allows now, stores what has ended, and returns what to wait for: the
*wave*, all jobs in flight. It is watched on the triggerer, or by the same process where the task does not defer. The
next part begins when the wave has ended, or most of a full one, or when the limit's next window opens and more is to be
submitted.

Four things outlive a part, and each may be lost or stale without harm to the ones before it:

* the ledger has each paid job that is not delivered; it alone decides whether something is bought;
* the destination has the results, with what they were made from;
* the journal has a row for each input that is done with;
* the state has the jobs in flight, so that a part need not look up all inputs.

A part writes them in this order. One that is killed leaves jobs in the ledger that the state does not have; the next
part finds them when it comes to submit these inputs. It leaves results without a row; the next part finds these too,
and the ledger tells which of them this run has paid for. So every window between two of these writes costs requests,
and none costs an image.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from airflow_provider_segmind.api.history_pages import records_of
from airflow_provider_segmind.api.models import SegmindRecord
from airflow_provider_segmind.api.operation import counting_requests
from airflow_provider_segmind.api.polling import get_status
from airflow_provider_segmind.api.wave import WaveEvent
from airflow_provider_segmind.exceptions import SegmindJobExpiredError, SegmindRateLimitError, SegmindServiceError
from airflow_provider_segmind.files.documents import DocumentStore
from airflow_provider_segmind.files.s3_client import read_connections_once
from airflow_provider_segmind.jobs.batch_budget import Budget, failures_allowed, not_submitted, too_many_failures
from airflow_provider_segmind.jobs.batch_description import BatchDescription, Summary, WaitForWave
from airflow_provider_segmind.jobs.batch_item import ItemWorker
from airflow_provider_segmind.jobs.batch_plan import BatchItem, existing_results
from airflow_provider_segmind.jobs.batch_progress import Progress, as_sentence
from airflow_provider_segmind.jobs.batch_state import STATE, BatchState, InFlight
from airflow_provider_segmind.jobs.batch_submits import BatchSubmits
from airflow_provider_segmind.jobs.batch_threads import each_in_threads
from airflow_provider_segmind.jobs.journal import MANIFEST, Journal, Row, RowStatus

RESULT_WAIT = 10.0
"""Seconds for which a part waits for slots of the rate limit to ask for results: about as long as the part before took
for its own, whose slots become free in this time. The results that have no slot by then are left to the next part."""

MANIFEST_SECONDS = 30.0

log = logging.getLogger(__name__)


class BatchRun:
    """
    One worker part of a batch.

    :param worker: works on single inputs
    :param documents: keeps the run's state
    :param tries: Airflow's ``max_tries``, which a user's Clear raises
    :param report: called with the progress when the part ends
    :param event: what the watch has seen, ``None`` at the start of a try
    """

    def __init__(
        self,
        description: BatchDescription,
        worker: ItemWorker,
        documents: DocumentStore,
        tries: int | None,
        report: Callable[[Mapping[str, Any]], None],
        event: WaveEvent | None = None,
    ) -> None:
        self.description = description
        self.worker = worker
        self.api = worker.runner.api
        self.documents = documents
        self.tries = tries
        self.report = report
        self.event = event
        self.sent_before = self.api.limiter.sent

    @read_connections_once()
    def work(self) -> Summary | WaitForWave:
        """Do one part; return the summary where nothing is left to do."""
        self._open()
        try:
            if self.event is not None:
                self._take_event(self.event)
            # Submits go first: the limit's window is open now, and what is stored before them delays all later ones.
            if self.state.stopped is None:
                self.submits.submit(self._budget())
            self._collect()
            self.submits.allow(self._budget())
        except Exception:
            # What is in flight stands in the ledger. The state saves the next try the search for it.
            with suppress(Exception):
                self._save(manifest=True)
            raise
        if self.state.in_flight or (self.submits.pending and self.submits.why_stopped() is None):
            self._check_progress()
            self._save(manifest=time.time() >= self.state.manifest_at + MANIFEST_SECONDS)
            return self.submits.wave()
        return self._finish()

    # ------------------------------------------------------------------ what earlier parts have left

    def _open(self) -> None:
        now = time.time()
        state = BatchState.read(self.documents)
        if state is None or state.inputs != self.description.fingerprint:
            state = self._restart(state, now)
        elif self.event is None and state.succeeded and state.tries != self.tries:
            # A user has cleared a task that succeeded: a new image for each input, or a look at what has changed.
            state = self._restart(state, now)
        elif self.event is None:
            state.is_retry = True
        self.state = state
        self.journal = Journal(self.documents, state.parts)
        self.journal.load()
        if self.event is None:
            if not state.succeeded:
                self.journal.reopen()
            state.stopped, state.progress_at = None, now
            for job in state.in_flight:  # each try waits as long
                job.deadline = now + self.description.timeout
            self.api.limiter.take_over(state.limiter, now)
        else:
            self.api.limiter.take_over(self.event.limiter, now)
            state.requests += self.event.requests
        state.tries = self.tries
        state.parts += 1
        self.items = self.description.inputs.items(self.documents)
        existing = existing_results(self.documents, self.items, self.description.list_names, again=self.event is None)
        retries_since = state.started_at if state.is_retry else None
        self.worker = replace(self.worker, existing=existing, retries_since=retries_since)
        self.by_key = {item.key: item for item in self.items}
        self._forget_in_flight_without_input()
        known = {job.key for job in state.in_flight} | self.journal.rows.keys()
        pending = (item for item in self.items if item.key not in known and item.same_as is None)
        self.submits = BatchSubmits(self.description, self.worker, state, pending, self._add_row)
        self.progress = Progress(state, self.items, self.journal.rows)
        if self.event is None:
            state.write(self.documents)  # so that a retry knows of this try, however early its process dies

    def _restart(self, old: BatchState | None, now: float) -> BatchState:
        """Begin the run's batch from its start. What the rows of before have cost counts."""
        state = BatchState(self.description.fingerprint, started_at=now, progress_at=now)
        if old is not None:
            journal = Journal(self.documents, old.parts)
            journal.load()
            state.spent_before = Budget.of(None, self.description.model, journal.rows.values(), old.spent_before).spent
            state.parts, state.requests = old.parts, old.requests
            log.info("The batch starts from its beginning: its parameters have changed, or a user has cleared it.")
            if old.in_flight:
                log.warning("%d jobs for other parameters are left alone. The ledger keeps them.", len(old.in_flight))
            for name in self.documents.names():
                if name != STATE:
                    self.documents.delete(name)
            state.write(self.documents)
        return state

    def _forget_in_flight_without_input(self) -> None:
        """Forget jobs whose row a killed part has written already, and those of inputs that are no longer listed."""
        for job in list(self.state.in_flight):
            if job.key not in self.by_key:
                log.warning("Request %s is about an input that is not listed now. The ledger keeps it.", job.request_id)
            elif job.key not in self.journal.rows:
                continue
            self.state.in_flight.remove(job)

    # ------------------------------------------------------------------ store

    def _collect(self) -> None:
        """Store the results of the jobs that have ended."""
        ended = [job for job in self.state.in_flight if job.ended]
        records = self._records(ended)
        free = self.api.limiter.slots_free(time.time(), RESULT_WAIT)
        asked = [job.request_id for job in ended if job.request_id not in records]
        later = set(asked[free:]) if free is not None else set()
        todo = deque(job for job in ended if job.request_id not in later)

        def store(job: InFlight) -> Row | InFlight:
            return self.worker.store(self.by_key[job.key], job, records.get(job.request_id))

        for job, outcome in each_in_threads(
            store, lambda: todo.popleft() if todo else None, self.description.max_transfers
        ):
            if isinstance(outcome, Exception):
                todo.clear()
                self.submits.stop_for(outcome)
            elif isinstance(outcome, Row):
                self._done(job, outcome)
        self.submits.raise_failure()

    def _take_event(self, event: WaveEvent) -> None:
        """Note what the watch has seen of the jobs, which it knows by their positions."""
        watched = [job for job in self.state.in_flight if not job.ended]
        for position in event.ended:
            if position < len(watched):
                watched[position].ended = True
        timed_out = {position for position in event.timed_out if position < len(watched)}
        if event.error is not None:
            log.warning("The watch of the wave ended early: %s", event.error)
            self._meet_error_of_watch(next((job for job in watched if not job.ended), None))
            now = time.time()
            timed_out.update(position for position, job in enumerate(watched) if job.deadline <= now)
        for position in timed_out:
            if not watched[position].ended:
                job = watched[position]
                self._done(job, self.worker.timed_out(self.by_key[job.key], job))

    def _meet_error_of_watch(self, job: InFlight | None) -> None:
        """
        Ask for the state of one job, so that an error that only a user can mend is raised here, such as a refused key.

        Otherwise the batch would watch again and again. The jobs stay in flight for the next try.
        """
        if job is not None:
            with suppress(SegmindServiceError, SegmindRateLimitError, SegmindJobExpiredError):
                self.worker.runner.run_operation(get_status(self.api, job.request_id))

    def _records(self, ended: list[InFlight]) -> dict[str, SegmindRecord]:
        """Ask the history for the outputs of the jobs that it has shown to have ended, a hundred a request."""
        if self.description.watch != "history" or not ended:
            return {}
        since = min(job.submitted_at for job in ended)
        operation = records_of(self.api, self.description.model, [job.request_id for job in ended], since)
        records = self.worker.runner.run_operation(counting_requests(operation, self._count))
        # Which of several outputs is the first, only the gateway's own answer tells.
        return {request_id: record for request_id, record in records.items() if len(record.output_urls) == 1}

    def _count(self) -> None:
        """Count a request to the history, which the limiter does not see."""
        self.state.requests += 1

    def _done(self, job: InFlight, row: Row) -> None:
        self.state.in_flight.remove(job)
        self._add_row(row)

    def _add_row(self, row: Row) -> None:
        self.journal.add(row)
        self.state.progress_at = time.time()
        if row.status in (RowStatus.FAILED, RowStatus.BLOCKED, RowStatus.MISSING):
            log.warning("%s: %s. %s", row.source, row.status.value, row.error)

    # ------------------------------------------------------------------ the end of a part

    def _check_progress(self) -> None:
        """Fail the try where nothing has happened for `timeout`: Segmind is down, or others use up the limit."""
        idle = time.time() - self.state.progress_at
        if not self.state.in_flight and not self.submits.is_waiting_for_outcomes and idle > self.description.timeout:
            raise SegmindServiceError(
                f"Nothing was submitted for {idle:.0f} s, longer than timeout={self.description.timeout:g}: Segmind "
                "could not be reached, or others use up the account's rate limit. See the log. A retry goes on."
            )

    def _save(self, *, manifest: bool) -> None:
        """Write rows, state and counters, and tell the progress."""
        now = time.time()
        self.journal.flush()
        self.state.requests += self.api.limiter.sent - self.sent_before
        self.sent_before = self.api.limiter.sent
        self.state.limiter = self.api.limiter.hand_over(now)
        if manifest:
            self.state.manifest_at = now
        self.state.write(self.documents)
        self.journal.compact()
        if manifest:
            self.journal.write_manifest(item.key for item in self.items)
        progress = self.progress.now(self._budget().spent)
        log.info(as_sentence(progress, self.state.parts))
        self.report({**progress, "manifest": self.documents.label_of(MANIFEST)})

    def _budget(self) -> Budget:
        description = self.description
        return Budget.of(description.max_cost, description.model, self.journal.rows.values(), self.state.spent_before)

    def _finish(self) -> Summary:
        """Complete the manifest and return the summary, or fail with what there is to do."""
        reason, left = self.submits.why_stopped(), len(self.submits.pending)
        for item in self.submits.pending:
            self.journal.add(Row(item.key, item.label, RowStatus.FAILED, error=f"Not submitted: {reason}"))
        for item in self.items:
            if item.same_as is not None and item.key not in self.journal.rows:
                self.journal.add(_row_of_duplicate(item, self.journal.rows[item.same_as]))
        counts = self.progress.summary(0.0)
        failures = (
            counts["failed"] + counts["missing"] + (counts["blocked"] if self.description.block_is_failure else 0)
        )
        allowed = failures_allowed(self.description.max_failures, counts["total"])
        stopped, self.state.stopped = self.state.stopped, None
        self.state.succeeded = reason is None and failures <= allowed
        self._save(manifest=True)
        summary = {**self.progress.summary(self._budget().spent), "manifest": self.documents.label_of(MANIFEST)}
        if reason is not None:
            raise not_submitted(reason, left, summary, over_budget=stopped is None)
        if failures > allowed:
            raise too_many_failures(failures, allowed, self.description.max_failures, summary)
        return summary


def _row_of_duplicate(item: BatchItem, first: Row) -> Row:
    """Return the row of an input that is listed twice: what became of the first one, and no cost."""
    stored = first.status in (RowStatus.COMPLETED, RowStatus.SKIPPED)
    status = RowStatus.SKIPPED if stored else first.status
    return replace(first, key=item.key, source=item.label, cost=None, status=status)
