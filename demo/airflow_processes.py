"""Real Airflow with a home of its own, as ``airflow standalone`` or component by component."""

from __future__ import annotations

import base64
import json
import os
import secrets
import sqlite3
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import psutil

from demo.airflow_api import AirflowApi
from demo.ports import free_ports
from demo.process import Process, ProcessFailedError
from demo.stack import Stack

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
DONE = {"success", "failed"}

SQLITE_TIMEOUT = """\
import sys

CONNECT_ARGS = {"timeout": 1.0 if "api-server" in sys.argv else 60.0}
"""
"""
How many seconds a component waits for SQLite's lock; the default is 5.

The API server can block itself until its own timeout (see ``LOCKED_PAUSES``), so that has to be short. A scheduler
whose timeout ends in the meantime would exit.
"""


class Airflow:
    """
    An Airflow installation and its processes.

    :param stack: the stack in which it runs
    :param dag_folders: the folders with its DAGs, by bundle name
    :param connections: connections by id, each as a URI or JSON, passed as environment variables
    :param settings: more environment variables, such as ``AIRFLOW__DATABASE__SQL_ALCHEMY_CONN`` for a database other
        than SQLite
    :param name: the name of its home in the folder of the stack
    """

    def __init__(
        self,
        stack: Stack,
        *,
        dag_folders: Mapping[str, Path],
        connections: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        name: str = "airflow",
    ) -> None:
        self.stack = stack
        self.home = stack.scratch / name
        self.home.mkdir()
        api_port, worker_log_port, trigger_log_port = free_ports(3)
        self.url = f"http://127.0.0.1:{api_port}"
        self.api = AirflowApi(self.url)
        stack.on_close(self.api.close)
        bundles = [
            {
                "name": name,
                "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                "kwargs": {"path": str(folder)},
            }
            for name, folder in dag_folders.items()
        ]
        self.env = {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(api_port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_log_port),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_log_port),
            # All components need the same secrets, even if they are started one by one.
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
            # Responses then name database errors, which LOCKED_PAUSES needs. Only this machine can read them.
            "AIRFLOW__API__EXPOSE_STACKTRACE": "True",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            # It listens on this machine only, so no password is needed.
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
            # Somebody is watching or a test is waiting, so the scheduler should not sleep for a second.
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
            **{f"AIRFLOW_CONN_{name.upper()}": value for name, value in (connections or {}).items()},
            **(settings or {}),
        }

    def start_standalone(self) -> Process:
        """Start all components with a new SQLite database."""
        self.use_sqlite()
        return self._start("airflow", "standalone")

    def use_sqlite(self) -> None:
        """Make a new SQLite database, still without tables."""
        # In WAL mode, which is stored in the file, readers do not block the writer.
        with closing(sqlite3.connect(self.home / "airflow.db")) as database:
            database.execute("PRAGMA journal_mode=WAL")
        (self.home / "config").mkdir()  # Airflow imports from there
        (self.home / "config" / "sqlite_timeout.py").write_text(SQLITE_TIMEOUT, "utf-8")
        self.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS"] = "sqlite_timeout.CONNECT_ARGS"

    def migrate_database(self, timeout: float = 120) -> None:
        """Create the tables of the database. Required before :meth:`start`."""
        self.run("db", "migrate", timeout=timeout)

    def start(
        self, component: str, *options: str, name: str | None = None, settings: Mapping[str, str] | None = None
    ) -> Process:
        """
        Start one component.

        :param component: one of :data:`COMPONENTS`, or any other command that serves
        :param options: its options
        :param name: the name of its process, for a component of which several run; by default the component's
        :param settings: environment variables for this process only
        """
        return self._start(name or component, *component.split(), *options, settings=settings)

    def run(self, *arguments: str, timeout: float = 120) -> str:
        """
        Run an Airflow command and return its output.

        :param arguments: the command, such as ``"providers", "list"``
        :param timeout: seconds
        """
        number = sum(name.startswith("command-") for name in self.stack.processes) + 1
        process = self._start(f"command-{number}-{arguments[0]}", *arguments)
        code = process.wait(timeout)
        process.stop()
        if code != 0:
            raise ProcessFailedError(f"airflow {' '.join(arguments)} ended with code {code}.", process.log)
        return process.log.read_text("utf-8", "replace")

    def wait_until_up(self, timeout: float = 180) -> None:
        """Wait until the API responds and scheduler, triggerer and DAG processor have sent a heartbeat."""
        deadline = time.monotonic() + timeout
        warm = False
        while not (warm and self.api.healthy()):
            self.ensure_running()
            # The API for tasks is built on its first request, which takes seconds. Do it while others still start.
            warm = warm or self.api.warm_up()
            if time.monotonic() > deadline:
                raise ProcessFailedError(f"Airflow did not start within {timeout:g} s.", self._log_to_read())
            time.sleep(0.2)

    def wait_for_dag(self, dag_id: str, timeout: float = 60) -> None:
        """Wait until a DAG has been parsed."""
        deadline = time.monotonic() + timeout
        while not self.api.has_dag(dag_id):
            self.ensure_running()
            if errors := self.api.import_errors():
                raise ProcessFailedError(f"A DAG file cannot be imported.\n{errors}")
            if time.monotonic() > deadline:
                raise ProcessFailedError(f"Airflow has not found the DAG {dag_id} within {timeout:g} s.")
            time.sleep(0.2)

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float = 120) -> str:
        """Wait until a DAG run has ended and return its state."""
        deadline = time.monotonic() + timeout
        while (state := self.api.run_state(dag_id, run_id)) not in DONE:
            self.ensure_running()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{dag_id} {run_id} is {state} after {timeout:g} s")
            time.sleep(0.2)
        return state

    def ensure_running(self) -> None:
        """
        Check that all components are running.

        :raises ProcessFailedError: one has ended; the error has the log that may tell why
        """
        for process in self.stack.processes.values():
            if process.name in {"airflow", *COMPONENTS}:
                process.ensure_running()
                if any_child_ended(process):
                    raise ProcessFailedError("A component of Airflow has ended unexpectedly.", process.log)
                if "address already in use" in process.tail(200).lower():
                    raise ProcessFailedError(
                        "Another program has taken a port that was chosen for Airflow. Try again.", process.log
                    )

    def _start(self, name: str, *arguments: str, settings: Mapping[str, str] | None = None) -> Process:
        command = [sys.executable, "-m", "airflow", *arguments]
        # After a SIGTERM the scheduler waits for its workers for a long time, so the grace period is short.
        return self.stack.start(name, command, env=self.env | dict(settings or {}), grace=1.0)

    def _log_to_read(self) -> Path | None:
        for name in ("airflow", *COMPONENTS):
            if name in self.stack.processes:
                return self.stack.processes[name].log
        return None


def any_child_ended(process: Process) -> bool:
    """Return whether a child is a zombie. ``airflow standalone`` does not notice that a component has ended."""
    try:
        children = psutil.Process(process.pid).children()
        return process.name == "airflow" and any(child.status() == psutil.STATUS_ZOMBIE for child in children)
    except psutil.NoSuchProcess:
        return False
