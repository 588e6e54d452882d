"""The calls of Airflow's REST API that the demo and the tests make."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import httpx

LOCKED_PAUSES = (0.1, 0.3, 1.0, 1.0, 2.0, 3.0)
"""
Seconds between the attempts of a call that failed because SQLite was locked.

Airflow 3.3 writes its audit log on the event loop of the API server. If the transaction of another request waits for
that loop to commit, neither continues until SQLite times out. The failed call has changed nothing, so it can be
repeated. PostgreSQL has no such lock.
"""


class AirflowApi:
    """
    A client of an Airflow that needs no password (``simple_auth_manager_all_admins``).

    :param url: the address of the API server
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url, timeout=60, trust_env=False)
        self._token: str | None = None

    def get(self, path: str, **params: Any) -> Any:
        """Return the response to ``GET /api/v2/<path>``."""
        return self._call("GET", path, params=params)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the response to ``POST /api/v2/<path>``."""
        return self._call("POST", path, json=body)

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the response to ``PATCH /api/v2/<path>``."""
        return self._call("PATCH", path, json=body)

    def delete(self, path: str) -> Any:
        """Return the response to ``DELETE /api/v2/<path>``."""
        return self._call("DELETE", path)

    def version(self) -> str | None:
        """Return the version of Airflow, or ``None`` while the server does not respond."""
        try:
            response = self._client.get("/api/v2/version", timeout=5)
        except httpx.TransportError:
            return None
        return str(response.json()["version"]) if response.is_success else None

    def warm_up(self) -> bool:
        """Send a request to the API that task processes use, and return whether it responded."""
        try:
            return self._client.get("/execution/health").is_success
        except httpx.TransportError:
            return False

    def healthy(self) -> bool:
        """Return whether the API responds and all other components have sent a recent heartbeat."""
        try:
            response = self._client.get("/api/v2/monitor/health", timeout=5)
        except httpx.TransportError:
            return False
        if not response.is_success:
            return False
        parts = response.json()
        return all(
            (parts.get(name) or {}).get("status") == "healthy"
            for name in ("metadatabase", "scheduler", "triggerer", "dag_processor")
        )

    def has_dag(self, dag_id: str) -> bool:
        """Return whether a DAG has been parsed."""
        try:
            self.get(f"dags/{dag_id}")
        except httpx.HTTPStatusError as error:
            if error.response.status_code == 404:
                return False
            raise
        return True

    def import_errors(self) -> str:
        """Return the import errors of the DAG files, or an empty string."""
        errors = self.get("importErrors")["import_errors"]
        return "\n".join(f"{error['filename']}\n{error['stack_trace']}" for error in errors)

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a DAG run and return its id."""
        run = self.post(f"dags/{dag_id}/dagRuns", {"logical_date": None, "conf": dict(conf or {})})
        return str(run["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a DAG run."""
        return str(self.get(f"dags/{dag_id}/dagRuns/{run_id}")["state"])

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a DAG run."""
        found: list[dict[str, Any]] = self.get(f"dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return found

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """Return an XCom value of a task, or ``None``."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        try:
            return self.get(path, map_index=map_index, deserialize=True)["value"]
        except httpx.HTTPStatusError as error:
            if error.response.status_code == 404:
                return None
            raise

    def log(self, dag_id: str, run_id: str, task_id: str, *, attempt: int = 1, map_index: int = -1) -> str:
        """Return the log of a task, oldest line first."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}"
        content = self.get(path, map_index=map_index, full_content=True)["content"]
        return "\n".join(line for entry in content for line in _lines(entry))

    def close(self) -> None:
        """Close the connections to the server."""
        self._client.close()

    def _call(self, method: str, path: str, **options: Any) -> Any:
        if self._token is None:
            response = self._client.get("/auth/token")
            response.raise_for_status()
            self._token = response.json()["access_token"]
        headers = {"Authorization": f"Bearer {self._token}"}
        for pause in (*LOCKED_PAUSES, None):
            response = self._client.request(method, f"/api/v2/{path}", headers=headers, **options)
            if pause is None or response.status_code != 500 or "database is locked" not in response.text:
                break
            time.sleep(pause)
        if response.is_error:
            raise httpx.HTTPStatusError(
                f"{method} {path}: {response.status_code} {response.text[:500]}",
                request=response.request,
                response=response,
            )
        return response.json() if response.content else None


def _lines(entry: Any) -> list[str]:
    """Return a log entry as lines: the event, then its exceptions without stack traces."""
    if not isinstance(entry, dict):
        return [str(entry)]
    said = " ".join(str(entry[name]) for name in ("timestamp", "level", "event") if entry.get(name))
    errors = entry.get("error_detail") or []
    return [said, *(f"{error.get('exc_type')}: {error.get('exc_value')}" for error in errors)]
