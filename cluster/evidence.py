"""What a run leaves behind, gathered once. :mod:`cluster.verdict` judges it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chaos.evidence import StoredObject
from cluster.airflow_records import AirflowRecords, TaskRecord, seconds_of_parts
from cluster.environment import Environment
from cluster.killer import Kill
from cluster.limit import LimitUse, measure_limit_use
from cluster.plan import BUCKET, PARTS


@dataclass(frozen=True)
class Evidence:
    """
    What was found when both DAGs had ended.

    :param run_states: the state of each DAG's run
    :param tasks: Airflow's task instances
    :param jobs: the jobs of the accepted POSTs, as the emulator lists them
    :param stored: the objects below the prefixes of the results, by URI, without the batch's own records
    :param limit: how the rate limit was used
    :param started_triggers: how many triggers each triggerer has started, by DAG and host
    :param worker_parts: how many parts of tasks each worker has finished, by host
    :param kills: what was killed
    :param triggers: the number of triggers that Airflow still has
    """

    run_states: Mapping[str, str]
    tasks: Sequence[TaskRecord]
    jobs: Sequence[Mapping[str, Any]]
    stored: Mapping[str, StoredObject]
    limit: LimitUse
    started_triggers: Mapping[tuple[str, str], int]
    worker_parts: Mapping[str, int]
    kills: Sequence[Kill]
    triggers: int = 0


def gather_evidence(environment: Environment, records: AirflowRecords, kills: Sequence[Kill]) -> Evidence:
    """
    Collect what a run has left behind in S3, the emulator, Airflow's database and its logs.

    :param environment: where the run took place
    :param records: Airflow's database and logs
    :param kills: what was killed
    """
    s3 = environment.s3
    pages = [
        page
        for part in PARTS
        for page in s3.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{part.folder}/erased/")
    ]
    keys = [found["Key"] for page in pages for found in page.get("Contents", []) if "/_segmind/" not in found["Key"]]
    results = {f"s3://{BUCKET}/{key}": s3.read(f"s3://{BUCKET}/{key}") for key in keys}
    return Evidence(
        run_states={part.dag_id: records.run_state(part.dag_id) for part in PARTS},
        tasks=records.tasks(),
        jobs=environment.emulator.jobs()["jobs"],
        stored={uri: StoredObject(found["Body"], found["Metadata"]) for uri, found in results.items()},
        limit=measure_limit_use(environment.emulator.requests()["log"]),
        started_triggers=records.started_triggers(),
        worker_parts={worker.name: len(seconds_of_parts(worker.log)) for worker in environment.workers},
        kills=kills,
        triggers=records.triggers(),
    )
