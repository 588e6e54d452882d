"""Airflow on PostgreSQL, with the two services that a run needs, each a process of its own."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from benchmarks.batch.processes import TaskProcesses, cpu_of_tree
from benchmarks.batch.s3_service import ACCESS_KEY, SECRET_KEY
from benchmarks.batch.scenarios import JOB_SECONDS, JOB_SIGMA, PLAN_VARIABLE, PROFILE_VARIABLE, Scenario, write_plan
from benchmarks.fake_service import noise_png
from chaos.postgres import Postgres
from demo.airflow_processes import COMPONENTS, Airflow
from demo.stack import Stack

REPOSITORY = Path(__file__).parents[2]
PHOTO_BYTES = 300_000
RESULT_BYTES = 2_000_000
IDLE_SECONDS = 15.0

SETTINGS = {
    "AIRFLOW__CORE__PARALLELISM": "6",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "1000",
    "AIRFLOW__API__WORKERS": "1",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",  # the one DAG file does not change
    # The default of a second between two looks at the queue would be a part of a short run.
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
}


class Environment:
    """
    Everything that a run needs.

    :param stack: holds the processes and their folder
    :param scenarios: what will be run
    :param report: called with a line about what is being done
    :param profiles: a folder for a profile of each task process
    """

    def __init__(
        self, stack: Stack, scenarios: Sequence[Scenario], report: Callable[[str], None], profiles: Path | None = None
    ) -> None:
        self.stack = stack
        self.report = report
        report("starting PostgreSQL, S3, Segmind and Airflow")
        plan = stack.scratch / "plan.json"
        write_plan(scenarios, plan)
        here = {"PYTHONPATH": str(REPOSITORY)}
        module = [sys.executable, "-m", "benchmarks.batch.segmind_service", f"--file-bytes={RESULT_BYTES}"]
        self.segmind_process = stack.start("segmind", module, env=here)
        self.s3_process = stack.start("s3", [sys.executable, "-m", "benchmarks.batch.s3_service"], env=here)
        self.postgres = Postgres(stack)
        self.segmind = self.segmind_process.wait_for_line(r"Segmind at (\S+)", timeout=60)[1]
        self.s3 = self.s3_process.wait_for_line(r"S3 at (\S+)", timeout=60)[1]
        extra = {"endpoint_url": self.s3, "region_name": "us-east-1"}
        aws = {"conn_type": "aws", "login": ACCESS_KEY, "password": SECRET_KEY, "extra": extra}
        self.airflow = Airflow(
            stack,
            dag_folders={"benchmarks": Path(__file__).parent / "dags"},
            connections={
                "aws_default": json.dumps(aws),
                **{scenario.name: scenario.connection(self.segmind) for scenario in scenarios},
            },
            settings=SETTINGS
            | here
            | {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.postgres.airflow_url, PLAN_VARIABLE: str(plan)}
            | ({PROFILE_VARIABLE: str(profiles)} if profiles else {}),
        )
        self.airflow.migrate_database()
        for component in COMPONENTS:
            self.airflow.start(component)
        self.airflow.wait_until_up()
        for scenario in scenarios:
            self.airflow.wait_for_dag(scenario.name, timeout=120)
            self.open_account(scenario)
            self.fill(scenario)
        self.tasks = TaskProcesses(self.pid("scheduler"))
        self.idle = self._measure_idle()

    def _measure_idle(self) -> float:
        """Return the CPU that the triggerer takes when nothing runs, in seconds a second."""
        self.report("measuring the triggerer at rest")
        time.sleep(5)
        before, began = cpu_of_tree(self.pid("triggerer")), time.monotonic()
        time.sleep(IDLE_SECONDS)
        return (cpu_of_tree(self.pid("triggerer")) - before) / (time.monotonic() - began)

    def pid(self, process: str) -> int:
        """Return the process id of a process of the stack."""
        found = self.stack.processes[process].pid
        assert found is not None
        return found

    def open_account(self, scenario: Scenario) -> None:
        """Let Segmind accept the scenario's key."""
        settings = {"limit": scenario.limit, "seconds": JOB_SECONDS, "sigma": JOB_SIGMA}
        self._ask(f"{self.segmind}/accounts/{scenario.account}", json.dumps(settings).encode())

    def fill(self, scenario: Scenario) -> None:
        """Put the scenario's photos into S3."""
        query = f"bucket=photos&prefix={scenario.source}&count={scenario.images}"
        self._ask(f"{self.s3}/-/fill?{query}", noise_png(PHOTO_BYTES))

    def seen_by_segmind(self, scenario: Scenario) -> dict[str, Any]:
        """Return what Segmind has seen of the scenario."""
        found: dict[str, Any] = self._ask(f"{self.segmind}/accounts/{scenario.account}")
        return found

    def results(self, scenario: Scenario) -> dict[str, tuple[int, str, float]]:
        """Return size, SHA-256 and time of each object below the scenario's destination."""
        found = self._ask(f"{self.s3}/-/objects?bucket=results&prefix={scenario.destination}")
        return {key: tuple(facts) for key, facts in found.items()}

    def seen_by_s3(self) -> Counter[str]:
        """Return how often each kind of request came to S3, and what went wrong."""
        return Counter(self._ask(f"{self.s3}/-/statistics"))

    def _ask(self, url: str, body: bytes | None = None) -> Any:
        with urlopen(Request(url, body, method="GET" if body is None else "PUT"), timeout=60) as response:
            return json.load(response)
