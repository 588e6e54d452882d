"""What a batch is to do, and what a worker part of it returns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_segmind.api.models import DEFAULT_TIMEOUT, Watch
from airflow_provider_segmind.jobs.batch_plan import Inputs
from airflow_provider_segmind.jobs.batch_state import InFlight

REQUESTS_PER_JOB: Mapping[Watch, float] = {"status": 3.1, "history": 1.1}
"""How much of the rate limit a job needs: its submit, hardly more than one poll, and its result. With the history as
the watch it needs the submit, and room for the few jobs that the history does not show."""


@dataclass(frozen=True)
class BatchDescription:
    """
    What a batch is to do; an operator's parameters, parsed.

    :param list_names: returns the names of what is at the destination, ``None`` if there are more than so many
    :param fingerprint: a digest of the parameters: state that was written for others is not used
    :param max_wave: jobs in flight at most
    :param max_transfers: inputs that are worked on at the same time
    :param max_failures: see :func:`~airflow_provider_segmind.jobs.batch_budget.check_max_failures`
    :param max_cost: US dollars for the run
    :param block_is_failure: whether inputs that moderation blocks count as failures
    """

    model: str
    inputs: Inputs
    list_names: Callable[[int], Collection[str] | None]
    fingerprint: str
    watch: Watch = "status"
    timeout: float = DEFAULT_TIMEOUT
    poll_interval: float | None = None
    max_wave: int = 500
    max_transfers: int = 8
    max_failures: int | float = 0
    max_cost: float | None = None
    block_is_failure: bool = True


@dataclass(frozen=True, slots=True)
class WaitForWave:
    """
    Watch these jobs, then come back.

    :param resume_at: epoch seconds at which to come back, whatever is still running; ``None``: when all have ended
    :param opens_at: epoch seconds before which coming back is of no use, even if all have ended
    :param limiter: what the watching process's limiter takes over
    :param leave_running: how many jobs may still be running when coming back
    """

    jobs: list[InFlight]
    resume_at: float | None
    opens_at: float
    limiter: dict[str, Any]
    leave_running: int = 0


Summary = dict[str, Any]
