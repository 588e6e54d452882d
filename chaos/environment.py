"""Everything that a run needs, as processes that can be killed one by one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from chaos import photos
from chaos.dying_task import DEATHS, due_file
from chaos.plan import BATCH_BUCKET, BUCKET, MAPPED_DAG, PLAN_VARIABLE, SHARED_BUCKET, SHARING_DAGS, Plan
from chaos.postgres import Postgres
from demo.airflow_processes import COMPONENTS, Airflow
from demo.emulator import Emulator
from demo.ports import free_ports
from demo.process import Process
from demo.s3_server import S3Server
from demo.stack import Stack

REPOSITORY = Path(__file__).parents[1]
JOB_SECONDS, JOB_SIGMA = 2.5, 0.3
RECORD_SECONDS = 40
"""Far less than Segmind's hour, so that some tasks come back after it and need the request history."""

SETTINGS = {
    "AIRFLOW__CORE__PARALLELISM": "12",  # most tasks sleep: they wait for a job or search the history again
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "64",
    # Task processes are forked from a server that has imported what they need. This takes 0.2 s of CPU instead of 1.5.
    "AIRFLOW__CORE__MP_START_METHOD": "forkserver",
    "AIRFLOW__CORE__MP_FORKSERVER_PRELOAD": "chaos.preload",
    "AIRFLOW__API__WORKERS": "1",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE": "5",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_MAX_OVERFLOW": "10",
    # Tasks of a dead scheduler are looked for every 10 s instead of 300. A scheduler counts as dead after 30 s, the
    # default. With less, a living scheduler on a busy machine would lose its tasks again and again.
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    # A running task whose supervisor was killed with its host fails after 60 s without a heartbeat instead of 300.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    # A queued task that no worker took, because its executor died, is queued again after 60 s instead of 600.
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
    # The triggers of a dead triggerer are taken over after 15 s instead of 30.
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",  # the one DAG file does not change
}


class Environment:
    """
    PostgreSQL, S3 behind a proxy, the emulator, and Airflow's four components.

    :param stack: holds the processes and their folder
    :param plan: the plan of the run
    :param report: called with a line about what is being started
    """

    def __init__(self, stack: Stack, plan: Plan, report: Callable[[str], None]) -> None:
        self.stack = stack
        self.plan = plan
        self.plan_file = stack.scratch / "plan.json"
        plan.write(self.plan_file)
        self.deaths_folder = stack.scratch / DEATHS
        self.deaths_folder.mkdir()
        for batch in plan.batches:
            due_file(self.plan_file, batch.dag_id).write_text("0", "utf-8")
        report("starting PostgreSQL, S3 and the emulator")
        emulator_port, proxy_port = free_ports(2)
        # These two come up while PostgreSQL is being set up.
        self.s3 = S3Server(stack)
        self.emulator = Emulator(
            stack,
            port=emulator_port,
            job_seconds=JOB_SECONDS,
            job_sigma=JOB_SIGMA,
            record_seconds=RECORD_SECONDS,
            seed=plan.seed,
        )
        self.postgres = Postgres(stack)
        self.s3_proxy = self._start_proxy(proxy_port)
        self.airflow = Airflow(
            stack,
            dag_folders={"chaos": Path(__file__).parent / "dags"},
            connections={
                "segmind_default": self.emulator.connection,
                "aws_default": json.dumps(
                    json.loads(self.s3.connection)
                    | {"extra": {"endpoint_url": f"http://127.0.0.1:{proxy_port}", "region_name": "us-east-1"}}
                ),
            },
            settings=SETTINGS
            | {
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.postgres.airflow_url,
                PLAN_VARIABLE: str(self.plan_file),
                "PYTHONPATH": str(REPOSITORY),
            },
        )

    def _start_proxy(self, port: int) -> Process:
        target = self.s3.url.rpartition(":")[2]
        script = str(Path(__file__).with_name("outage_proxy.py"))
        proxy = self.stack.start("s3-proxy", [sys.executable, script, f"--port={port}", f"--target-port={target}"])
        proxy.wait_for_line("forwarding", timeout=30)
        return proxy

    def start_runs(self) -> None:
        """Upload the photos, start Airflow and trigger a run of each DAG."""
        with ThreadPoolExecutor(1) as uploads:
            uploaded = uploads.submit(self._upload_photos)
            self.airflow.migrate_database()  # takes longer than the uploads, and one core
            uploaded.result()
        for component in COMPONENTS:
            self.airflow.start(component)
        self.airflow.wait_until_up()
        for dag_id in self.expected_tasks:
            self.airflow.wait_for_dag(dag_id)
        for dag_id in self.expected_tasks:
            self.airflow.api.trigger(dag_id)

    def _upload_photos(self) -> None:
        for bucket in (BUCKET, SHARED_BUCKET, BATCH_BUCKET):
            self.s3.make_bucket(bucket)
        self.s3.client.put_bucket_versioning(Bucket=SHARED_BUCKET, VersioningConfiguration={"Status": "Enabled"})
        for number, uri in enumerate(self.plan.photos):
            self.s3.upload(photos.photo(self.plan.seed, number), uri)

    @property
    def expected_tasks(self) -> dict[str, int]:
        """The number of task instances in a run of each DAG."""
        counts = {MAPPED_DAG: len(self.plan.images), **dict.fromkeys(SHARING_DAGS, len(self.plan.shared))}
        counts |= {batch.dag_id: 1 for batch in self.plan.batches}
        return {dag_id: count for dag_id, count in counts.items() if count}

    def processes(self) -> dict[str, Process]:
        """Return the processes that must be running, by the names that a plan's kills use."""
        return {
            "postgres": self.postgres.process,
            "emulator": self.emulator.process,
            "s3": self.s3_proxy,
            **{component: self.stack.processes[component] for component in COMPONENTS},
        }
