"""The report of a run: as a JSON object, and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from chaos.plan import BATCH_DAGS, BATCH_POINTS, POINTS, TARGET_WEIGHTS, Plan
from chaos.verdict import Verdict

MAX_HISTORIES = 5
"""The number of faulty images whose history is printed. The JSON report has all of them."""


def build_report(
    plan: Plan,
    verdict: Verdict,
    *,
    command: str,
    deaths: Counter[str],
    kills: Counter[str],
    ended_by_themselves: Mapping[str, int],
    histories: Mapping[str, list[str]],
    requests: Mapping[str, int],
    seconds: float,
    seconds_with_start: float,
) -> dict[str, Any]:
    """
    Return the report as a JSON object.

    :param plan: the plan of the run
    :param verdict: its verdict
    :param command: the command that runs the same plan again
    :param deaths: deaths of task processes, by point
    :param kills: kills from outside, by target
    :param ended_by_themselves: components that ended because another one was down
    :param histories: the history of each faulty image, by stem
    :param requests: the requests that the emulator has received, by kind
    :param seconds: how long the images took
    :param seconds_with_start: how long the whole run took
    """
    return {
        "passed": verdict.passed,
        "seed": plan.seed,
        "command": command,
        "images": len(plan.images),
        "shared_images": len(plan.shared),
        "batches": {batch.dag_id: batch.images for batch in plan.batches},
        "deleted_runs": [deletion.dag_id for deletion in plan.deletions],
        "kills": deaths.total() + kills.total(),
        "deaths_at_named_points": {point: deaths[point] for point in dict.fromkeys((*POINTS, *BATCH_POINTS))},
        "kills_from_outside": {target: kills[target] for target in (*TARGET_WEIGHTS, *BATCH_DAGS)},
        "ended_by_themselves": dict(ended_by_themselves),
        "accepted_posts": verdict.posts,
        "failed_jobs": verdict.failed_jobs,
        "paid_jobs_of_shared_images": verdict.shared_jobs,
        "paid_jobs_of_batches": dict(verdict.batch_jobs),
        "tries": verdict.tries,
        "most_tries_of_one_task": verdict.most_tries,
        "requests": dict(requests),
        "seconds": round(seconds, 1),
        "seconds_with_start": round(seconds_with_start, 1),
        "faults": verdict.faults,
        "image_faults": {
            stem: {"faults": faults, "history": histories[stem]} for stem, faults in verdict.image_faults.items()
        },
    }


def format_report(report: Mapping[str, Any]) -> str:
    """
    Return the report as text.

    :param report: what :func:`build_report` returned
    """
    failed = report["failed_jobs"]
    images = report["images"] + report["shared_images"] + sum(report["batches"].values())
    lines = [
        "",
        f"Seed {report['seed']}: {images} images in {report['seconds']:.0f} s "
        f"({report['seconds_with_start']:.0f} s including the start of all processes)",
        f"Kills: {report['kills']}",
        f"  task processes at named points: {_counts(report['deaths_at_named_points'])}",
        f"  from outside: {_counts(report['kills_from_outside'])}",
        f"Components that ended by themselves: {_counts(report['ended_by_themselves']) or 'none'}",
        f"Runs deleted and started anew: {', '.join(report['deleted_runs']) or 'none'}",
        f"Tries of tasks: {report['tries']}, at most {report['most_tries_of_one_task']} of one task",
        f"Accepted POSTs: {report['accepted_posts']}, of which {failed} failed at Segmind and were not billed",
    ]
    if report["shared_images"]:
        lines.append(
            f"Jobs paid for the {report['shared_images']} images that two DAGs share: "
            f"{report['paid_jobs_of_shared_images']}"
        )
    for dag_id, count in report["batches"].items():
        lines.append(f"Jobs paid for the {count} images of {dag_id}: {report['paid_jobs_of_batches'][dag_id]}")
    if report["passed"]:
        lines.append(
            "PASSED: Every image is stored with the right content. No job that was paid for and not stored was bought "
            "again. Nothing was left behind."
        )
        return "\n".join(lines)
    lines += ["", "FAILED:", *report["faults"]]
    for number, (stem, image) in enumerate(report["image_faults"].items()):
        lines += ["", f"{stem}: {'; '.join(image['faults'])}"]
        if number < MAX_HISTORIES:
            lines += [f"    {line}" for line in image["history"]]
    lines += ["", f"Run the same plan again: {report['command']}"]
    return "\n".join(lines)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count)
