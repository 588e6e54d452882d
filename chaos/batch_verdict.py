"""What must be true of a batch: one paid job and one result an image, and a manifest with one line for each."""

from __future__ import annotations

from collections.abc import Iterator

from chaos import photos
from chaos.evidence import Evidence
from chaos.plan import BatchPlan, Plan
from chaos.stored_verdict import stored_faults

DONE = ("completed", "skipped")


def batch_image_faults(plan: Plan, batch: BatchPlan, stem: str, evidence: Evidence) -> Iterator[str]:
    """
    Say what is wrong with an image of a batch.

    :param plan: the plan of the run
    :param batch: the plan of the batch
    :param stem: the name of its photo
    :param evidence: what was found
    """
    source = f"{batch.folder}{stem}.jpg"
    jobs = evidence.jobs_of_photo(stem)
    paid = sorted(job["request_id"] for job in jobs if job["state"] != "FAILED")
    if len(paid) != 1:
        yield f"{len(jobs)} POSTs were accepted, and {len(paid)} of their jobs were paid for"
    stored = evidence.stored.get(batch.target(stem))
    if stored is None:
        yield "its result is not stored"
    else:
        content_fault = photos.find_fault(stored.content, plan.seed, plan.photos.index(source), len(plan.photos))
        yield from stored_faults(stored, paid, content_fault)
    lines = [line for line in manifest_of(batch, evidence) if line["source"] == source]
    if len(lines) != 1:
        yield f"the manifest has {len(lines)} lines about it"
    for line in lines:
        if line["status"] not in DONE or line["uri"] != batch.target(stem) or line["request_id"] not in paid:
            yield f"its line of the manifest is wrong: {line}"


def batch_faults(batch: BatchPlan, evidence: Evidence) -> Iterator[str]:
    """
    Say what is wrong with a batch as a whole.

    :param batch: the plan of the batch
    :param evidence: what was found
    """
    if (state := evidence.task_state(batch.dag_id, "erase", -1)) != "success":
        yield f"the task of {batch.dag_id} is {state}"
    if (count := len(manifest_of(batch, evidence))) != batch.images:
        yield f"the manifest of {batch.dag_id} has {count} lines for {batch.images} images"


def manifest_of(batch: BatchPlan, evidence: Evidence) -> list[dict[str, object]]:
    """Return the lines of the manifest of a batch's run, the last one if a run was deleted."""
    run_id = next(iter(evidence.runs.get(batch.dag_id, {})), "")
    uri = f"{batch.stored_at}_segmind/runs/{batch.dag_id}/{run_id}/erase/manifest.jsonl"
    return [dict(line) for line in evidence.manifests.get(uri, ())]
