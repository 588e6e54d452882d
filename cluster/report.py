"""The report of a run: as a JSON object, and as text."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.costs import Costs
from cluster.environment import SHARES
from cluster.evidence import Evidence
from cluster.plan import PARTS, POOL_SLOTS, REQUESTS_PER_MINUTE

MAX_FAULTS = 20
"""The number of faults that are printed. The JSON report has all of them."""


def build_report(
    evidence: Evidence, faults: Sequence[str], costs: Mapping[str, Costs], seconds_with_start: float
) -> dict[str, Any]:
    """
    Return the report as a JSON object.

    :param evidence: what was found
    :param faults: what is not as it must be
    :param costs: what each DAG has cost
    :param seconds_with_start: how long the whole run took
    """
    started: dict[str, dict[str, int]] = {}
    for (dag_id, host), count in sorted(evidence.started_triggers.items()):
        started.setdefault(dag_id, {})[host] = count
    return {
        "passed": not faults,
        "faults": list(faults),
        "images": sum(len(part.photos) for part in PARTS),
        "accepted_posts": len(evidence.jobs),
        "stored": len(evidence.stored),
        "requests_per_minute": REQUESTS_PER_MINUTE,
        "pool_slots": POOL_SLOTS,
        "shares": SHARES,
        "busiest_minute": evidence.limit.busiest_minute,
        "refused": evidence.limit.refused,
        "kills": [dataclasses.asdict(kill) for kill in evidence.kills],
        "started_triggers": started,
        "worker_parts": dict(evidence.worker_parts),
        "most_tries_of_one_task": max((task.try_number for task in evidence.tasks), default=0),
        "costs": {dag_id: cost.as_json() for dag_id, cost in costs.items()},
        "seconds_with_start": round(seconds_with_start, 1),
    }


def format_report(report: Mapping[str, Any]) -> str:
    """
    Return the report as text.

    :param report: what :func:`build_report` returned
    """
    lines = [
        "",
        f"{report['images']} images: {report['accepted_posts']} POSTs were accepted, {report['stored']} results stored",
        f"Limit: {report['requests_per_minute']} requests a minute. The busiest minute had {report['busiest_minute']}, "
        f"and {report['refused']} requests were refused with a 429",
        f"Parts of tasks on the workers: {_counts(report['worker_parts'])}",
        *(f"Triggers of {dag_id}: {_counts(started)}" for dag_id, started in report["started_triggers"].items()),
        *(f"Killed: {kill['name']}, which worked for {_counts(kill['work'])}" for kill in report["kills"]),
    ]
    for dag_id, cost in report["costs"].items():
        lines += [
            "",
            f"{dag_id}: {cost['images']} images in {cost['seconds']:.0f} s, {cost['images_a_minute']:.0f} a minute",
            f"  requests an image: {_counts(cost['requests_an_image'])}; busiest minute {cost['busiest_minute']}",
            f"  parts of tasks: {cost['worker_parts']}; worker slots: {cost['worker_seconds_an_image']:g} s an image",
            f"  requests to S3 an image, Segmind's own included: {_counts(cost['s3_requests_an_image'])}",
            f"  rows an image: {_counts(cost['rows_an_image'])}",
            f"  size of the database: {cost['database_bytes_an_image']} bytes an image",
            f"  CPU seconds an image: {_counts(cost['cpu_seconds_an_image'])}",
        ]
    lines += ["", f"The whole run took {report['seconds_with_start']:.0f} s."]
    if report["passed"]:
        lines.append("PASSED: Every image is stored with the right content and was submitted once, within the limit.")
    else:
        lines += ["FAILED:", *report["faults"][:MAX_FAULTS]]
        if (more := len(report["faults"]) - MAX_FAULTS) > 0:
            lines.append(f"and {more} more")
    return "\n".join(lines)


def _counts(counts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {count:g}" for name, count in counts.items() if count) or "none"
