"""All that is known of one image, for whoever reads a bad verdict."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from chaos.evidence import Evidence
from chaos.plan import ImagePlan
from chaos.records import Records
from chaos.stage import DAG_ID, Stage
from chaos.verdict import jobs_of


def history_of(image: ImagePlan, stage: Stage, records: Records, evidence: Evidence) -> list[str]:
    """
    Tell all that is known of an image.

    :param image: the image
    :param stage: where it ran
    :param records: Airflow's tables
    :param evidence: what was found in the end
    """
    deaths = [path.read_text("utf-8") for path in sorted(stage.deaths.glob(f"{image.stem}.*.json"))]
    jobs = [
        f"job {job['request_id']}: {job['state']}, accepted at {job['created']:.3f}, {job['error'] or 'no error'}"
        for job in jobs_of(image, evidence)
    ]
    return [
        f"{image.route}[{image.map_index}], planned deaths: {', '.join(image.deaths) or 'none'}",
        *records.tries(image.route, image.map_index),
        *jobs,
        *deaths,
        *_log_of(image, stage),
    ]


def _log_of(image: ImagePlan, stage: Stage) -> Iterator[str]:
    folder = stage.stack.scratch / "airflow" / "logs"
    place = f"dag_id={DAG_ID}/*/task_id={image.route}/map_index={image.map_index}/*.log"
    for log in sorted(folder.glob(place)):
        yield f"--- {log.name}"
        for line in log.read_text("utf-8", "replace").splitlines():
            with contextlib.suppress(ValueError, AttributeError):
                said = json.loads(line)
                line = " ".join(str(said[name]) for name in ("timestamp", "level", "event") if name in said)
                line += "".join(f" {e.get('exc_type')}: {e.get('exc_value')}" for e in said.get("error_detail", []))
            yield line[:400]
