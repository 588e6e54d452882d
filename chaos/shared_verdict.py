"""What must be true of an image that two DAGs share over one ledger, whose runs are deleted and started anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chaos import photos
from chaos.evidence import Evidence
from chaos.plan import SHARING_DAGS, Plan, SharedImage
from chaos.stored_verdict import stored_faults


def shared_faults(plan: Plan, number: int, image: SharedImage, evidence: Evidence) -> Iterator[str]:
    """
    Say what is wrong with a shared image.

    Each DAG must have its result. A job that was paid for must have been stored before the next one was accepted. Both
    DAGs skip what is stored, so at most one job for each of them was paid for.

    :param plan: the plan of the run
    :param number: the number that its photo is drawn from
    :param image: the image
    :param evidence: what was found
    """
    paid = sorted(
        (job for job in evidence.jobs_of_photo(image.stem) if job["state"] != "FAILED"), key=lambda job: job["created"]
    )
    names = [job["request_id"] for job in paid]
    if not 1 <= len(paid) <= len(SHARING_DAGS):
        yield f"{len(paid)} jobs were paid for"
    yield from _order_faults(paid, _first_stored(image, evidence))
    for dag_id in SHARING_DAGS:
        if (state := evidence.task_state(dag_id, "erase", number - len(plan.images))) != "success":
            yield f"its task of {dag_id} is {state}"
        stored = evidence.stored.get(image.target(dag_id))
        if stored is None:
            yield f"its result of {dag_id} is not stored"
        else:
            content_fault = photos.find_fault(stored.content, plan.seed, number, len(plan.photos))
            yield from stored_faults(stored, names, content_fault)


def _first_stored(image: SharedImage, evidence: Evidence) -> dict[str | None, float]:
    """Return when the result of each job was first stored, by request id."""
    first: dict[str | None, float] = {}
    for dag_id in SHARING_DAGS:
        for version in evidence.versions.get(image.target(dag_id), ()):
            first[version.request_id] = min(version.stored_at, first.get(version.request_id, version.stored_at))
    return first


def _order_faults(paid: list[Mapping[str, Any]], first_stored: Mapping[str | None, float]) -> Iterator[str]:
    for number, job in enumerate(paid):
        stored_at = first_stored.get(job["request_id"])
        if stored_at is None:
            yield f"request {job['request_id']} was paid for, and its result was never stored"
        elif number + 1 < len(paid) and paid[number + 1]["created"] < stored_at:
            yield (
                f"request {paid[number + 1]['request_id']} was accepted before the result of {job['request_id']}, "
                "which is paid for, was stored"
            )
