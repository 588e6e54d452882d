"""
The submits of one worker part of a batch: as many as the rate limit, the wave and the budget allow now.

It ends when one of these is used up, and says when more can be submitted.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable

from airflow_provider_segmind.api.gateway import MAX_SUBMIT_WAIT
from airflow_provider_segmind.api.operation import pause
from airflow_provider_segmind.api.wave_pacing import WavePacing
from airflow_provider_segmind.jobs.batch_budget import Budget
from airflow_provider_segmind.jobs.batch_description import REQUESTS_PER_JOB, BatchDescription, WaitForWave
from airflow_provider_segmind.jobs.batch_item import FATAL, ItemWorker, NoSlot, Outage, Postponed, SubmitOutcome
from airflow_provider_segmind.jobs.batch_plan import BatchItem
from airflow_provider_segmind.jobs.batch_state import BatchState, InFlight
from airflow_provider_segmind.jobs.batch_threads import each_in_threads
from airflow_provider_segmind.jobs.journal import Row

PART_SECONDS = 60.0
"""After so long a part begins no more submits: a worker slot is for others too, and progress is to be seen."""

WORTH_A_PART = 50
"""A part is resumed when this many submits are possible, or as many as a window of the limit holds."""

START_SECONDS = 4.0
"""A part is resumed so long before the limit's next window opens, since Airflow takes about that time to start it."""

SUBMIT_WAIT = 10.0
"""
Seconds for which a submit of a batch waits for its slot.

In the minute after a 429 slots are evenly spaced, and a part that used only those that are free at once would do almost
nothing. Until the reset it has results to store.
"""

MAX_GAP = 1.0
"""Seconds for which a part waits for the next submit that the limit allows. A longer wait is left to the trigger."""

OUTAGE_SECONDS = 30.0
FULL_WAVE_SECONDS = 60.0
MAX_LEFT_RUNNING = 0.1
"""While inputs wait for a place in a full wave, a part is resumed after so many seconds, or when only this share of the
wave is running, so that slow jobs do not hold them up."""

log = logging.getLogger(__name__)


class BatchSubmits:
    """
    The inputs that are still to be submitted, and what this part does about them.

    :param state: the jobs that are submitted are added to its jobs in flight
    :param pending: in order
    :param add_row: called with the row of an input that is done with
    """

    def __init__(
        self,
        description: BatchDescription,
        worker: ItemWorker,
        state: BatchState,
        pending: Iterable[BatchItem],
        add_row: Callable[[Row], None],
    ) -> None:
        self.description = description
        self.worker = worker
        self.state = state
        self.pending = deque(pending)
        self._failure: Exception | None = None
        self._add_row = add_row
        limiter = worker.runner.api.limiter
        limiter.expect_bursts(description.max_transfers)
        self._pacing = WavePacing(limiter, REQUESTS_PER_JOB[description.watch], state.submits)
        self._resume_at: float | None = None
        self._postponed: list[tuple[float, BatchItem]] = []
        self._affordable: int | None = None
        self._running = self._submitted = 0
        self._part_ends = 0.0

    def submit(self, budget: Budget) -> None:
        """Submit as many inputs as the limit, the wave and the budget allow now."""
        now = time.time()
        self._part_ends = now + PART_SECONDS
        self.allow(budget)
        if self.pending:
            self._wait_for_window(MAX_SUBMIT_WAIT)
        for item, outcome in each_in_threads(self.worker.submit, self._next_to_submit, self.description.max_transfers):
            self._running -= 1
            self._take_outcome(item, outcome)
        self.pending.extend(item for _, item in self._postponed)

    def allow(self, budget: Budget) -> None:
        """Take note of what may still be spent, which changes when what jobs have cost becomes known."""
        self._affordable = budget.jobs_left(len(self.state.in_flight))
        self._running = self._submitted = 0

    def _next_to_submit(self) -> BatchItem | None:
        """Return the next input, ``None`` where none may be submitted before one of those that run is done."""
        now = time.time()
        if not self.pending or (self._resume_at, self._failure, self.state.stopped) != (None, None, None):
            return None
        if now >= self._part_ends:
            self._resume_at = now
            return None
        if self._budget_is_used():
            return None
        room = self._room()
        if self._running >= room:
            return None
        is_open = self._running < self._pacing.submits_now(now, room, self._patience(now))
        if not is_open and (self._running or not self._wait_for_window(MAX_GAP)):
            return None
        self._running += 1
        return self.pending.popleft()

    def _room(self) -> int:
        """
        Return how many more jobs may be in flight.

        Those that have ended make room for others at once. But no more than a wave of them waits to be stored, so that
        nothing is bought for a destination that takes no results.
        """
        ended = sum(job.ended for job in self.state.in_flight)
        return self.description.max_wave + min(ended, self.description.max_wave) - len(self.state.in_flight)

    def _budget_is_used(self) -> bool:
        """Return whether the jobs of this part are all that `max_cost` allows, until some have ended."""
        return self._affordable is not None and self._running + self._submitted >= self._affordable

    def _patience(self, now: float) -> float:
        """
        Return how long a submit may wait for its slot.

        Not at all where slots are not spaced anyway: requests that wait in line make them so, and the submits of a
        window would then leave one by one. Nor for a reset: there are results to store meanwhile.
        """
        limiter = self.worker.runner.api.limiter
        return SUBMIT_WAIT if limiter.is_recovering(now) and not limiter.is_closed(now) else 0.0

    def _wait_for_window(self, patience: float) -> bool:
        """Wait until the limit allows a submit, if that is soon, and return whether it does."""
        now = time.time()
        seconds = self._pacing.opens_at(now) - now
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
            self._submitted += 1
            self.state.count_submit(outcome.submitted_at)
            self.state.progress_at = time.time()
        else:
            if isinstance(outcome, Postponed):
                self._postponed.append((outcome.moment, item))
                return
            self.pending.appendleft(item)
            if isinstance(outcome, NoSlot):
                self._resume_at = max(self._resume_at or 0.0, outcome.moment)
            elif isinstance(outcome, Outage):
                log.warning("%s The batch goes on later.", outcome.error)
                self._resume_at = max(self._resume_at or 0.0, time.time() + OUTAGE_SECONDS)
            else:
                self.stop_for(outcome)

    def stop_for(self, error: Exception) -> None:
        """Submit nothing more. A refusal that meets all inputs ends the batch when what is in flight is stored."""
        if isinstance(error, FATAL):
            self.state.stopped = str(error)
        elif self._failure is None:
            self._failure = error

    def raise_failure(self) -> None:
        """Raise what ends the part, if there was anything other than a refusal that meets all inputs alike."""
        if self._failure is not None:
            raise self._failure

    @property
    def is_waiting_for_outcomes(self) -> bool:
        """Whether some inputs wait for the outcome of an earlier submit, their own or another task's."""
        return bool(self._postponed)

    def wave(self) -> WaitForWave:
        """Return what to wait for, and when the next part should begin."""
        now = time.time()
        jobs = [job for job in self.state.in_flight if not job.ended]
        opens_at, moments, leave_running = now, [], 0
        if self._postponed:
            moments.append(min(moment for moment, _ in self._postponed))
        if self._resume_at is not None:
            opens_at = self._resume_at
            moments.append(opens_at)
        elif len(self.pending) > len(self._postponed) and self.why_stopped() is None and not self._budget_is_used():
            if self._room() <= 0:
                moments.append(now + FULL_WAVE_SECONDS)
                leave_running = int(len(jobs) * MAX_LEFT_RUNNING)
            else:
                opens_at = self._next_window(now)
                moments.append(opens_at)
        elif any(job.ended for job in self.state.in_flight):
            opens_at = self._next_window(now)
            moments.append(opens_at)
        elif self._postponed:
            opens_at = moments[0]
        resume_at = min(moments) if moments else None
        return WaitForWave(jobs, resume_at, min([opens_at, *moments]), self.state.limiter, leave_running)

    def _next_window(self, now: float) -> float:
        """Return when a part should begin in order to use the limit's next window."""
        return max(self._pacing.opens_at(now, WORTH_A_PART) - START_SECONDS, now)

    def why_stopped(self) -> str | None:
        """Return why nothing more is submitted, ``None`` if more is."""
        if self.state.stopped is not None:
            return self.state.stopped
        if self.pending and self._affordable == 0 and not self.state.in_flight:
            return f"max_cost={self.description.max_cost:g} is reached."
        return None
