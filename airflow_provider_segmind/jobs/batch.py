"""
A batch: thousands of inputs in waves, worked through by one task.

A worker part stores what has ended, submits as much as the rate limit allows now, and returns what to wait for: the
*wave*, all jobs in flight. It is watched on the triggerer, or by the same process where the task does not defer. The
next part begins when the wave has ended, or when the limit's next window opens and more is to be submitted.

Four things outlive a part, and each may be lost or stale without harm to the ones before it:

* the ledger has each paid job that is not delivered; it alone decides whether something is bought;
* the destination has the results, with what they were made from;
* the journal has a row for each input that is done with;
* the state has the jobs in flight, so that a part need not look up all inputs.

A part writes them in this order. One that is killed leaves jobs in the ledger that the state does not have; the next
part finds them when it comes to submit these inputs. It leaves results without a row; their inputs are submitted, and
found to be stored. So every window between two of these writes costs requests, and none costs an image.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from airflow_provider_segmind.api.gateway import MAX_SUBMIT_WAIT
from airflow_provider_segmind.api.history_pages import records_of
from airflow_provider_segmind.api.models import SegmindRecord
from airflow_provider_segmind.api.operation import counting_requests, pause
from airflow_provider_segmind.api.wave import WaveEvent
from airflow_provider_segmind.api.wave_pacing import WavePacing
from airflow_provider_segmind.exceptions import (
    SegmindServiceError,
)
from airflow_provider_segmind.files.documents import DocumentStore
from airflow_provider_segmind.files.s3_client import read_connections_once
from airflow_provider_segmind.jobs.batch_budget import Budget, failures_allowed, not_submitted, too_many_failures
from airflow_provider_segmind.jobs.batch_description import REQUESTS_PER_JOB, BatchDescription, Summary, WaitForWave
from airflow_provider_segmind.jobs.batch_item import FATAL, ItemWorker, NoSlot, Outage, Postponed, SubmitOutcome
from airflow_provider_segmind.jobs.batch_plan import BatchItem
from airflow_provider_segmind.jobs.batch_progress import Progress, as_sentence
from airflow_provider_segmind.jobs.batch_state import STATE, BatchState, InFlight
from airflow_provider_segmind.jobs.batch_threads import each_in_threads
from airflow_provider_segmind.jobs.journal import MANIFEST, Journal, Row, RowStatus

PART_SECONDS = 60.0
"""After so long a part begins no more submits: a worker slot is for others too, and progress is to be seen."""

WORTH_A_PART = 100
"""A part is resumed when this many submits are possible, or as many as a window of the limit holds."""

START_SECONDS = 4.0
"""A part is resumed so long before the limit's next window opens, since Airflow takes about that time to start it."""

MAX_GAP = 1.0
"""Seconds for which a part waits for the next submit that the limit allows. A longer wait is left to the trigger."""

OUTAGE_SECONDS = 30.0
FULL_WAVE_SECONDS = 60.0
"""A full wave is looked at again after so long, so that one slow job does not hold up the others."""

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
        self.resume_at: float | None = None
        self.postponed: list[tuple[float, BatchItem]] = []
        self.failure: Exception | None = None
        self.affordable: int | None = None
        self.running = self.submitted = 0

    @read_connections_once()
    def work(self) -> Summary | WaitForWave:
        """Do one part; return the summary where nothing is left to do."""
        self._open()
        try:
            self._collect()
            if self.state.stopped is None:
                self._submit()
        except Exception:
            # What is in flight stands in the ledger. The state saves the next try the search for it.
            with suppress(Exception):
                self._save(manifest=True)
            raise
        if self.state.in_flight or (self.pending and self._why_stopped() is None):
            self._check_progress()
            self._save(manifest=time.time() >= self.state.manifest_at + MANIFEST_SECONDS)
            return self._wave()
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
        self.state = state
        self.journal = Journal(self.documents, state.parts)
        self.journal.load()
        if self.event is None:
            if not state.succeeded:
                self.journal.reopen()
            state.stopped, state.progress_at = None, now
            self.api.limiter.take_over(state.limiter, now)
        else:
            self.api.limiter.take_over(self.event.limiter, now)
            state.requests += self.event.requests
        state.tries = self.tries
        state.parts += 1
        self.items = self.description.inputs.items(self.documents)
        self.by_key = {item.key: item for item in self.items}
        self._forget_removed_inputs()
        known = {job.key for job in state.in_flight} | self.journal.rows.keys()
        self.pending = deque(item for item in self.items if item.key not in known and item.same_as is None)
        self.pacing = WavePacing(self.api.limiter, REQUESTS_PER_JOB[self.description.watch], state.submits)
        self.api.limiter.expect_bursts(self.description.max_transfers)
        self.progress = Progress(state, self.items, self.journal.rows)

    def _restart(self, old: BatchState | None, now: float) -> BatchState:
        """Begin the run's batch from its start. What the rows of before have cost counts, and their jobs stay known."""
        state = BatchState(self.description.fingerprint, started_at=now, progress_at=now)
        if old is not None:
            journal = Journal(self.documents, old.parts)
            journal.load()
            state.spent_before = Budget.of(None, self.description.model, journal.rows.values(), old.spent_before).spent
            state.parts, state.requests, state.in_flight = old.parts, old.requests, old.in_flight
            log.info("The batch starts from its beginning: its parameters have changed, or a user has cleared it.")
            for name in self.documents.names():
                if name != STATE:
                    self.documents.delete(name)
            state.write(self.documents)
        return state

    def _forget_removed_inputs(self) -> None:
        removed = [job for job in self.state.in_flight if job.key not in self.by_key]
        for job in removed:
            log.warning("Request %s is about an input that is no longer listed. The ledger keeps it.", job.request_id)
            self.state.in_flight.remove(job)

    # ------------------------------------------------------------------ store

    def _collect(self) -> None:
        """Store the results of the jobs that have ended. Chaos seam: batch_store."""
        if self.event is not None:
            watched = [job for job in self.state.in_flight if not job.ended]
            if self.event.error:
                log.warning("The wave's watch ended early: %s", self.event.error)
            for position in self.event.ended:
                if position < len(watched):
                    watched[position].ended = True
            for position in self.event.timed_out:
                if position < len(watched) and not watched[position].ended:
                    job = watched[position]
                    self._done(job, self.worker.timed_out(self.by_key[job.key], job))
        ended = [job for job in self.state.in_flight if job.ended]
        records = self._records(ended)
        free = self.api.limiter.slots_free(time.time())
        asked = [job for job in ended if job.request_id not in records]
        later = asked[free:] if free is not None else []
        todo = deque(job for job in ended if job not in later)

        def store(job: InFlight) -> Row | InFlight:
            return self.worker.store(self.by_key[job.key], job, records.get(job.request_id))

        for job, outcome in each_in_threads(
            store, lambda: todo.popleft() if todo else None, self.description.max_transfers
        ):
            if isinstance(outcome, Exception):
                todo.clear()
                self._stop_for(outcome)
            elif isinstance(outcome, Row):
                self._done(job, outcome)
        self._raise_failure()

    def _records(self, ended: list[InFlight]) -> dict[str, SegmindRecord]:
        """Ask the history for the outputs of the jobs that it has shown to have ended, a hundred a request."""
        if self.description.watch != "history" or not ended:
            return {}
        since = min(job.submitted_at for job in ended)
        operation = records_of(self.api, self.description.model, [job.request_id for job in ended], since)
        records = self.worker.runner.run_operation(counting_requests(operation, self._count))
        return {request_id: record for request_id, record in records.items() if record.output_urls}

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

    # ------------------------------------------------------------------ submit

    def _submit(self) -> None:
        """Submit as many inputs as the limit, the wave and the budget allow now. Chaos seam: batch_submit."""
        now = time.time()
        self.part_ends = now + PART_SECONDS
        self.affordable = self._budget().jobs_left(len(self.state.in_flight))
        self._wait_for_window(MAX_SUBMIT_WAIT)
        for item, outcome in each_in_threads(self.worker.submit, self._next_to_submit, self.description.max_transfers):
            self.running -= 1
            self._take_outcome(item, outcome)
        self.pending.extend(item for _, item in self.postponed)
        self._raise_failure()

    def _next_to_submit(self) -> BatchItem | None:
        """Return the next input, ``None`` where none may be submitted before one of those that run is done."""
        now = time.time()
        if not self.pending or self.resume_at is not None or self.failure is not None or self.state.stopped is not None:
            return None
        if now >= self.part_ends:
            self.resume_at = now
            return None
        if self._budget_is_used():
            return None
        room = self.description.max_wave - len(self.state.in_flight)
        if self.running >= room:
            return None
        if self.running >= self.pacing.submits_now(now, room) and (self.running or not self._wait_for_window(MAX_GAP)):
            return None
        self.running += 1
        return self.pending.popleft()

    def _budget_is_used(self) -> bool:
        """Return whether the jobs of this part are all that `max_cost` allows, until some have ended."""
        return self.affordable is not None and self.running + self.submitted >= self.affordable

    def _wait_for_window(self, patience: float) -> bool:
        """Wait until the limit allows a submit, if that is soon, and return whether it does."""
        now = time.time()
        seconds = self.pacing.opens_at(now) - now
        if seconds > patience:
            return False
        if seconds > 0:
            self.worker.runner.run_operation(pause(seconds + 0.01))
        return True

    def _take_outcome(self, item: BatchItem, outcome: SubmitOutcome | Exception) -> None:
        if isinstance(outcome, Row):
            self._add_row(outcome)
        elif isinstance(outcome, InFlight):
            self.state.in_flight.append(outcome)
            self.submitted += 1
            self.state.count_submit(outcome.submitted_at)
            self.state.progress_at = time.time()
        else:
            if isinstance(outcome, Postponed):
                self.postponed.append((outcome.moment, item))
                return
            self.pending.appendleft(item)
            if isinstance(outcome, NoSlot):
                self.resume_at = max(self.resume_at or 0.0, outcome.moment)
            elif isinstance(outcome, Outage):
                log.warning("%s The batch goes on later.", outcome.error)
                self.resume_at = max(self.resume_at or 0.0, time.time() + OUTAGE_SECONDS)
            else:
                self._stop_for(outcome)

    def _stop_for(self, error: Exception) -> None:
        """Submit nothing more. A refusal that meets all inputs ends the batch when what is in flight is stored."""
        if isinstance(error, FATAL):
            self.state.stopped = str(error)
        elif self.failure is None:
            self.failure = error

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure

    # ------------------------------------------------------------------ the end of a part

    def _wave(self) -> WaitForWave:
        """Return what to wait for, and when the next part should begin."""
        now = time.time()
        opens_at, moments = now, []
        if self.postponed:
            moments.append(min(moment for moment, _ in self.postponed))
        if self.resume_at is not None:
            opens_at = self.resume_at
            moments.append(opens_at)
        elif len(self.pending) > len(self.postponed) and self._why_stopped() is None and not self._budget_is_used():
            if len(self.state.in_flight) >= self.description.max_wave:
                moments.append(now + FULL_WAVE_SECONDS)
            else:
                opens_at = self._next_window(now)
                moments.append(opens_at)
        elif any(job.ended for job in self.state.in_flight):
            opens_at = self._next_window(now)
            moments.append(opens_at)
        elif self.postponed:
            opens_at = moments[0]
        jobs = [job for job in self.state.in_flight if not job.ended]
        return WaitForWave(jobs, min(moments) if moments else None, min([opens_at, *moments]), self.state.limiter)

    def _next_window(self, now: float) -> float:
        """Return when a part should begin in order to use the limit's next window."""
        return max(self.pacing.opens_at(now, WORTH_A_PART) - START_SECONDS, now)

    def _why_stopped(self) -> str | None:
        """Return why nothing more is submitted, ``None`` if more is."""
        if self.state.stopped is not None:
            return self.state.stopped
        if self.affordable == 0 and not self.state.in_flight:
            return f"max_cost={self.description.max_cost:g} is reached."
        return None

    def _check_progress(self) -> None:
        """Fail the try where nothing has happened for `timeout`: Segmind is down, or others use up the limit."""
        idle = time.time() - self.state.progress_at
        if not self.state.in_flight and not self.postponed and idle > self.description.timeout:
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
        reason, left = self._why_stopped(), len(self.pending)
        for item in self.pending:
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
