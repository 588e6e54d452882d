"""Everything that is known about one image, to explain a failed verdict."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from chaos.airflow_database import AirflowDatabase
from chaos.environment import DAG_ID, Environment
from chaos.evidence import Evidence
from chaos.plan import ImagePlan
from chaos.verdict import jobs_of

MAX_LINE = 400


def describe_history(
    image: ImagePlan, environment: Environment, database: AirflowDatabase, evidence: Evidence
) -> list[str]:
    """
    Describe what happened to an image, one line each: its plan, tries, jobs, deaths and task logs.

    :param image: the image
    :param environment: where the run took place
    :param database: Airflow's database
    :param evidence: what was found at the end
    """
    deaths = [path.read_text("utf-8") for path in sorted(environment.deaths_folder.glob(f"{image.stem}.*.json"))]
    jobs = [
        f"job {job['request_id']}: {job['state']}, accepted at {job['created']:.3f}, {job['error'] or 'no error'}"
        for job in jobs_of(image, evidence)
    ]
    checkpoints = [
        f"checkpoint: {record.state}, request {record.request_id}"
        for record in evidence.checkpoints
        if (record.task_id, record.map_index) == (image.route, image.map_index)
    ]
    return [
        f"{image.route}[{image.map_index}], planned deaths: {', '.join(image.deaths) or 'none'}",
        *database.tries(image.route, image.map_index),
        *jobs,
        *checkpoints,
        *deaths,
        *_log_lines(image, environment),
    ]


def _log_lines(image: ImagePlan, environment: Environment) -> Iterator[str]:
    folder = environment.airflow.home / "logs"
    for log in sorted(folder.glob(f"dag_id={DAG_ID}/*/task_id={image.route}/map_index={image.map_index}/*.log")):
        yield f"--- {log.name}"
        for line in log.read_text("utf-8", "replace").splitlines():
            yield _format_log_line(line)[:MAX_LINE]


def _format_log_line(line: str) -> str:
    """Shorten a line that is JSON, as Airflow writes them. Any other line stays as it is."""
    with contextlib.suppress(ValueError, AttributeError):
        entry = json.loads(line)
        text = " ".join(str(entry[name]) for name in ("timestamp", "level", "event") if name in entry)
        return text + "".join(f" {e.get('exc_type')}: {e.get('exc_value')}" for e in entry.get("error_detail", []))
    return line
