"""A run's report for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHOWN = 5
"""Images whose whole history is printed; the JSON report has them all."""


def in_words(report: Mapping[str, Any]) -> str:
    """
    Return the report as text.

    :param report: what the JSON file holds
    """
    failed = report["jobs_failed_unbilled"]
    lines = [
        "",
        f"Seed {report['seed']}: {report['images']} images in {report['seconds']:.0f} s "
        f"({report['seconds_with_start']:.0f} s with the start of everything)",
        f"Kills: {report['kills']}",
        f"  of task processes at named points: {_counts(report['deaths_at_named_points'])}",
        f"  from outside: {_counts(report['kills_from_outside'])}",
        f"  ended by themselves, for want of another: {_counts(report['ended_by_themselves']) or 'none'}",
        f"Tries of tasks: {report['tries']}, most of one task: {report['most_tries_of_one_task']}",
        f"Accepted POSTs: {report['accepted_posts']}, of which {failed} failed at the service and cost nothing",
    ]
    if report["good"]:
        lines.append("Every image is stored, correct by its content, and was paid for once. Nothing is left behind.")
        return "\n".join(lines)
    lines += ["", "WRONG:", *report["wrong"]]
    for number, (stem, found) in enumerate(report["wrong_images"].items()):
        lines += ["", f"{stem}: {'; '.join(found['wrong'])}"]
        if number < SHOWN:
            lines += [f"    {line}" for line in found["history"]]
    lines += ["", f"The same plan again: {report['again']}"]
    return "\n".join(lines)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count)
