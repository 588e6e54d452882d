"""Everything that is known about one image, to explain a failed verdict."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from chaos.airflow_database import AirflowDatabase
from chaos.environment import Environment
from chaos.evidence import Evidence
from chaos.plan import MAPPED_DAG, SHARING_DAGS, Plan
from chaos.verdict import jobs_of

MAX_LINE = 400


def describe_history(stem: str, environment: Environment, database: AirflowDatabase, evidence: Evidence) -> list[str]:
    """
    Describe what happened to an image, one line each: its plan, tries, jobs, deaths and task logs.

    :param stem: the name of its photo
    :param environment: where the run took place
    :param database: Airflow's database
    :param evidence: what was found at the end
    """
    deaths = [path.read_text("utf-8") for path in sorted(environment.deaths_folder.glob(f"{stem}.*.json"))]
    jobs = [
        f"job {job['request_id']}: {job['state']}, accepted at {job['created']:.3f}, {job['error'] or 'no error'}"
        for job in _jobs(stem, environment.plan, evidence)
    ]
    lines = [*jobs, *deaths]
    for dag_id, task_id, map_index in _tasks(stem, environment.plan):
        lines += [
            f"{dag_id}.{task_id}[{map_index}]",
            *database.tries(dag_id, task_id, map_index),
            *(
                f"checkpoint: {record.state}, request {record.request_id}"
                for record in evidence.checkpoints
                if (record.dag_id, record.task_id, record.map_index) == (dag_id, task_id, map_index)
            ),
            *_log_lines(dag_id, task_id, map_index, environment),
        ]
    for batch in environment.plan.batches:
        if stem in batch.stems:
            names = (stem, *(job["request_id"] for job in evidence.jobs_of_photo(stem)))
            lines += database.tries(batch.dag_id, "erase", -1)
            lines += [
                line
                for line in _log_lines(batch.dag_id, "erase", -1, environment)
                if line.startswith("--- ") or any(name in line for name in names)
            ]
    return lines


def _tasks(stem: str, plan: Plan) -> list[tuple[str, str, int]]:
    """Return the task instances that process an image alone: DAG, task and map index."""
    for image in plan.images:
        if image.stem == stem:
            return [(MAPPED_DAG, image.route, image.map_index)]
    indexes = [index for index, image in enumerate(plan.shared) if image.stem == stem]
    return [(dag_id, "erase", index) for index in indexes for dag_id in SHARING_DAGS]


def _jobs(stem: str, plan: Plan, evidence: Evidence) -> list[Mapping[str, Any]]:
    for image in plan.images:
        if image.stem == stem:
            return jobs_of(image, evidence)
    return evidence.jobs_of_photo(stem)


def _log_lines(dag_id: str, task_id: str, map_index: int, environment: Environment) -> Iterator[str]:
    folder = environment.airflow.home / "logs"
    mapped = f"/map_index={map_index}" if map_index >= 0 else ""
    for log in sorted(folder.glob(f"dag_id={dag_id}/*/task_id={task_id}{mapped}/*.log")):
        yield f"--- {log.relative_to(folder)}"
        for line in log.read_text("utf-8", "replace").splitlines():
            yield _format_log_line(line)[:MAX_LINE]


def _format_log_line(line: str) -> str:
    """Shorten a line that is JSON, as Airflow writes them. Any other line stays as it is."""
    with contextlib.suppress(ValueError, AttributeError):
        entry = json.loads(line)
        text = " ".join(str(entry[name]) for name in ("timestamp", "level", "event") if name in entry)
        return text + "".join(f" {e.get('exc_type')}: {e.get('exc_value')}" for e in entry.get("error_detail", []))
    return line
