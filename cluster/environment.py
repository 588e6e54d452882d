"""PostgreSQL, Redis, S3, the emulator, and an Airflow with several workers and triggerers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from chaos import photos
from chaos.postgres import Postgres
from cluster import hostname
from cluster.plan import (
    BUCKET,
    CHUNK_CONNECTIONS,
    CHUNKED_LIMIT,
    CHUNKS,
    JOB_SECONDS,
    JOB_SIGMA,
    MAPPED_CONNECTION,
    MAPPED_LIMIT,
    PARTS,
    POOL,
    POOL_SLOTS,
    REQUESTS_PER_MINUTE,
    SEED,
    TRIGGERERS,
    WORKER_CONCURRENCY,
    WORKERS,
    chunk_share,
    triggerer_share,
)
from cluster.redis_server import Redis
from demo.airflow_processes import Airflow
from demo.emulator import Emulator
from demo.ports import free_ports
from demo.process import Process
from demo.s3_server import S3Server
from demo.stack import Stack

REPOSITORY = Path(__file__).parents[1]

SHARES = {
    MAPPED_CONNECTION: triggerer_share(MAPPED_LIMIT, POOL_SLOTS, TRIGGERERS),
    **dict.fromkeys(CHUNK_CONNECTIONS, chunk_share(CHUNKED_LIMIT, CHUNKS)),
}
"""``requests_per_minute`` of each connection."""

PRELOADED = (
    "airflow.providers.amazon.aws.hooks.s3",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow_provider_segmind.hooks.segmind",
    "airflow_provider_segmind.hooks.transport",
    "airflow_provider_segmind.jobs.run",
    "airflow_provider_segmind.operators.bria",
    "airflow_provider_segmind.triggers.segmind",
)
"""What a worker imports once, so that the processes of its tasks, which are forked from it, do not."""

SETTINGS = {
    "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
    "AIRFLOW__CORE__HOSTNAME_CALLABLE": f"{hostname.__name__}.{hostname.get_hostname.__name__}",
    "AIRFLOW__CORE__PARALLELISM": "32",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "64",
    "AIRFLOW__CELERY__EXTRA_CELERY_CONFIG": json.dumps({"imports": PRELOADED}),
    "AIRFLOW__API__WORKERS": "1",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE": "5",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_MAX_OVERFLOW": "10",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",  # the DAG files do not change
    # The tasks of a dead worker fail, and are retried, after 30 s without a heartbeat instead of 300.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "5",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    # Those that it had taken from Redis and not begun are queued again after 60 s instead of 600.
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
    # The triggers of a dead triggerer are taken over after 15 s instead of 30.
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
}


class Environment:
    """
    All processes of a run.

    :param stack: holds the processes and their folder
    :param report: called with a line about what is being started
    """

    def __init__(self, stack: Stack, report: Callable[[str], None]) -> None:
        self.stack = stack
        report("starting PostgreSQL, Redis, S3 and the emulator")
        self.s3 = S3Server(stack)
        self.emulator = Emulator(
            stack,
            job_seconds=JOB_SECONDS,
            job_sigma=JOB_SIGMA,
            requests_per_minute=REQUESTS_PER_MINUTE,
            seed=SEED,
        )
        self.redis = Redis(stack)
        self.postgres = Postgres(stack)
        self.airflow = Airflow(
            stack,
            dag_folders={"cluster": Path(__file__).parent / "dags"},
            connections={
                "aws_default": self.s3.connection,
                **{conn_id: self._connection(share) for conn_id, share in SHARES.items()},
            },
            settings=SETTINGS
            | {
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.postgres.airflow_url,
                "AIRFLOW__CELERY__BROKER_URL": self.redis.url,
                "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{self.postgres.airflow_url}",
                "PYTHONPATH": str(REPOSITORY),
            },
        )
        self.workers: list[Process] = []
        self.triggerers: list[Process] = []
        self._cpu_of_killed: dict[str, float] = {"triggerer": 0.0, "worker": 0.0}

    def _connection(self, share: float) -> str:
        return json.dumps(json.loads(self.emulator.connection) | {"extra": {"requests_per_minute": share}})

    def start(self, report: Callable[[str], None]) -> None:
        """Upload the photos and start Airflow."""
        with ThreadPoolExecutor(1) as uploads:
            uploaded = uploads.submit(self._upload_photos)
            self.airflow.migrate_database()  # takes longer than the uploads, and one core
            uploaded.result()
        report(f"starting Airflow with {WORKERS} workers and {TRIGGERERS} triggerers")
        for component in ("api-server", "scheduler", "dag-processor"):
            self.airflow.start(component)
        for _ in range(TRIGGERERS):
            self.start_triggerer()
        for _ in range(WORKERS):
            self.start_worker()
        self.airflow.wait_until_up()
        for worker in self.workers:
            worker.wait_for_line(r"celery@\S+ ready", timeout=120)
        for part in PARTS:
            self.airflow.wait_for_dag(part.dag_id)
        self.airflow.api.post("pools", {"name": POOL, "slots": POOL_SLOTS, "include_deferred": True})

    def _upload_photos(self) -> None:
        self.s3.make_bucket(BUCKET)
        for part in PARTS:
            for photo in part.photos:
                self.s3.upload(photos.photo(SEED, photo.number), photo.source)

    def kill(self, process: Process) -> None:
        """Kill a host: a triggerer or a worker with all that it has started."""
        self._cpu_of_killed[_kind(process)] += process.cpu_seconds()
        process.kill_tree()

    def cpu_seconds(self) -> dict[str, float]:
        """Return the seconds of CPU that were used until now, by kind of process."""
        used = dict(self._cpu_of_killed)
        for process in self.stack.processes.values():
            used[_kind(process)] = used.get(_kind(process), 0.0) + process.cpu_seconds()
        return used

    def start_triggerer(self) -> Process:
        """Start one more triggerer, as a host of its own."""
        name = f"triggerer-{len(self.triggerers) + 1}"
        settings = {
            hostname.VARIABLE: name,
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_ports(1)[0]),
        }
        self.triggerers.append(self.airflow.start("triggerer", name=name, settings=settings))
        return self.triggerers[-1]

    def start_worker(self) -> Process:
        """Start one more worker, as a host of its own."""
        name = f"worker-{len(self.workers) + 1}"
        settings = {
            hostname.VARIABLE: name,
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_ports(1)[0]),
        }
        options = (f"--concurrency={WORKER_CONCURRENCY}", f"--celery-hostname=celery@{name}")
        self.workers.append(self.airflow.start("celery worker", *options, name=name, settings=settings))
        return self.workers[-1]


def _kind(process: Process) -> str:
    return re.sub(r"-\d+$", "", process.name)
