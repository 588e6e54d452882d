"""Deletes DAG runs in the middle and starts new ones, as an impatient user does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx

from chaos.environment import Environment
from chaos.plan import Deletion
from demo.airflow_api import AirflowApi

PATIENCE = 120.0
"""Seconds that Airflow gets for one step, outages of its API server and database included."""


class Deletions:
    """
    Carries out a plan's deletions, each in a thread of its own: a call lasts as long as an outage of Airflow does.

    :param environment: where the runs are
    :param deletions: the deletions
    :param report: called with a line about each deletion
    """

    def __init__(
        self, environment: Environment, deletions: tuple[Deletion, ...], report: Callable[[str], None]
    ) -> None:
        self._environment = environment
        self._report = report
        self._pending = list(deletions)
        self._threads = ThreadPoolExecutor(max(len(deletions), 1))
        self._started: list[Future[None]] = []

    @property
    def finished(self) -> bool:
        """Whether all runs were deleted and started anew. Raises what went wrong."""
        ended = [future for future in self._started if future.done()]
        for future in ended:
            future.result()
        return not self._pending and len(ended) == len(self._started)

    def step(self, shares: Mapping[str, float]) -> None:
        """
        Begin what is due now.

        :param shares: the share of finished images by DAG
        """
        for deletion in list(self._pending):
            if shares.get(deletion.dag_id, 0.0) >= deletion.share:
                self._pending.remove(deletion)
                self._started.append(self._threads.submit(self._replace_run, deletion.dag_id))

    def close(self) -> None:
        """Wait for the threads."""
        self._threads.shutdown(cancel_futures=True)

    def _replace_run(self, dag_id: str) -> None:
        api = AirflowApi(self._environment.airflow.url)
        try:
            runs = f"dags/{dag_id}/dagRuns"
            [run] = _insist(lambda: api.get(runs)["dag_runs"])
            run_id = run["dag_run_id"]
            # Airflow refuses to delete a run that is active. It stops the tasks of a run that is marked.
            _insist(lambda: api.patch(f"{runs}/{run_id}", {"state": "failed"}))
            _insist(lambda: api.delete(f"{runs}/{run_id}"), done=404)
            # With an id of ours, a call whose answer was lost cannot start a second run.
            new_run: dict[str, Any] = {"dag_run_id": f"{run_id}-again", "logical_date": None, "conf": {}}
            _insist(lambda: api.post(runs, new_run), done=409)
            self._report(f"deleted a run of {dag_id} and started a new one")
        finally:
            api.close()


def _insist(call: Callable[[], Any], done: int | None = None) -> Any:
    """Repeat a call until it succeeds, or is refused with a status which says that it succeeded before."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return call()
        except httpx.HTTPError as error:
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code == done:
                return None
            if time.monotonic() > deadline:
                raise
        time.sleep(0.5)
