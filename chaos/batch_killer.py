"""Kills the task processes of batches at any moment, and lets their planned deaths come due."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable

import psutil
import psycopg2

from chaos.airflow_database import AirflowDatabase
from chaos.dying_task import due_file
from chaos.environment import Environment
from chaos.evidence import BATCH_FOLDER, list_objects
from chaos.plan import BatchPlan

LAST_DUE_AT = 0.6
"""The share of stored results at which the last death and the last kill of a batch are due."""

LOOK_SECONDS = 0.5
"""How often the stored results are counted and the task's process is searched."""


class BatchKiller:
    """
    Carries out the kills of one batch.

    :param environment: holds the processes
    :param batch: the plan of the batch
    :param database: tells which of the processes is the batch's
    :param report: called with a line about each kill
    """

    def __init__(
        self, environment: Environment, batch: BatchPlan, database: AirflowDatabase, report: Callable[[str], None]
    ) -> None:
        self._environment = environment
        self._batch = batch
        self._database = database
        self._report = report
        self._pending = list(batch.kills)
        self._next_look = 0.0
        self._running_since: float | None = None
        self.done = 0
        self.share = 0.0
        """The share of images whose result is stored."""

    def step(self) -> None:
        """Do what is due now."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        results = [uri for uri in list_objects(self._environment.s3, self._batch.stored_at) if BATCH_FOLDER not in uri]
        self.share = len(results) / self._batch.images
        due = math.ceil(len(self._batch.deaths) * min(self.share / LAST_DUE_AT + 0.05, 1.0))
        due_file(self._environment.plan_file, self._batch.dag_id).write_text(str(due), "utf-8")
        # A kill comes only when more results are stored than at the one before: on any machine the batch gets further.
        if self._pending and self.share >= LAST_DUE_AT * self.done / len(self._batch.kills):
            self._kill(now)

    def _kill(self, now: float) -> None:
        """Kill the task's process, if it has been seen for as long as the kill waits."""
        process = self._find_process()
        if process is None:
            self._running_since = None
            return
        self._running_since = self._running_since or now
        if now - self._running_since < self._pending[0]:
            return
        with contextlib.suppress(psutil.Error):
            process.kill()
            self._pending.pop(0)
            self._running_since = None
            self.done += 1
            self._report(f"killed the task of {self._batch.dag_id}")

    def _find_process(self) -> psutil.Process | None:
        with contextlib.suppress(psycopg2.Error):
            titles = tuple(f"airflow worker -- {task}" for task in self._database.running_tasks(self._batch.dag_id))
            for process in psutil.Process().children(recursive=True) if titles else ():
                with contextlib.suppress(psutil.Error):
                    if " ".join(process.cmdline()).startswith(titles):
                        return process
        return None
