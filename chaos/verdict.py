"""What must be true at the end of a run, for each image and as a whole, decided from the evidence alone."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from chaos import photos
from chaos.airflow_database import CheckpointRecord
from chaos.batch_verdict import batch_faults, batch_image_faults
from chaos.evidence import BATCH_FOLDER, Evidence, LedgerRecord
from chaos.plan import MAPPED_DAG, SHARING_DAGS, ImagePlan, Plan
from chaos.shared_verdict import shared_faults
from chaos.stored_verdict import name_jobs, stored_faults


@dataclass
class Verdict:
    """
    The result of a run.

    :param image_faults: what is wrong with single images, by stem
    :param faults: what is wrong as a whole
    :param posts: the number of accepted POSTs
    :param failed_jobs: how many of their jobs failed at Segmind, which does not bill them
    :param shared_jobs: the number of jobs of shared images that were paid for
    :param batch_jobs: the number of jobs of each batch that were paid for, by DAG
    :param tries: the number of tries of all tasks
    :param most_tries: the highest number of tries of one task
    """

    image_faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    faults: list[str] = field(default_factory=list)
    posts: int = 0
    failed_jobs: int = 0
    shared_jobs: int = 0
    batch_jobs: dict[str, int] = field(default_factory=dict)
    tries: int = 0
    most_tries: int = 0

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults and not self.image_faults


def judge(plan: Plan, evidence: Evidence) -> Verdict:
    """
    Compare what was found with what must be true.

    :param plan: the plan of the run
    :param evidence: what was found
    """
    verdict = Verdict(
        posts=len(evidence.jobs),
        failed_jobs=sum(job["state"] == "FAILED" for job in evidence.jobs),
        shared_jobs=sum(
            job["state"] != "FAILED" for image in plan.shared for job in evidence.jobs_of_photo(image.stem)
        ),
        tries=sum(task.try_number for task in evidence.tasks),
        most_tries=max((task.try_number for task in evidence.tasks), default=0),
    )
    for number, image in enumerate(plan.images):
        if faults := list(_image_faults(plan, number, image, evidence)):
            verdict.image_faults[image.stem] = faults
    for number, shared in enumerate(plan.shared, len(plan.images)):
        if faults := list(shared_faults(plan, number, shared, evidence)):
            verdict.image_faults[shared.stem] = faults
    for batch in plan.batches:
        for stem in batch.stems:
            if faults := list(batch_image_faults(plan, batch, stem, evidence)):
                verdict.image_faults[stem] = faults
        verdict.faults += batch_faults(batch, evidence)
        verdict.batch_jobs[batch.dag_id] = sum(
            job["state"] != "FAILED" for stem in batch.stems for job in evidence.jobs_of_photo(stem)
        )
    verdict.faults += _overall_faults(plan, evidence)
    return verdict


def jobs_of(image: ImagePlan, evidence: Evidence) -> list[Mapping[str, Any]]:
    """Return the jobs of the accepted POSTs of an image."""
    if image.route.endswith("inline"):
        identity = f"sha256:{hashlib.sha256(evidence.sources[image.source]).hexdigest()}"
        return [job for job in evidence.jobs if job["image"] == identity]
    return evidence.jobs_of_photo(image.stem)


def _image_faults(plan: Plan, number: int, image: ImagePlan, evidence: Evidence) -> Iterator[str]:
    if (state := evidence.task_state(MAPPED_DAG, image.route, image.map_index)) != "success":
        yield f"its task is {state}"
    jobs = jobs_of(image, evidence)
    paid = sorted(job["request_id"] for job in jobs if job["state"] != "FAILED")
    if len(paid) != 1:
        yield f"{len(jobs)} POSTs were accepted, and {len(paid)} of their jobs were paid for"
    for checkpoint in evidence.checkpoints:
        if (checkpoint.dag_id, checkpoint.task_id, checkpoint.map_index) == (MAPPED_DAG, image.route, image.map_index):
            yield from _checkpoint_faults(checkpoint, paid)
    stored = evidence.stored.get(image.target)
    if stored is None:
        yield "its result is not stored"
    else:
        yield from stored_faults(stored, paid, photos.find_fault(stored.content, plan.seed, number, len(plan.photos)))


def _checkpoint_faults(checkpoint: CheckpointRecord, paid: list[str]) -> Iterator[str]:
    """A checkpoint may be forgotten. One that still exists must say that the paid job is delivered."""
    if checkpoint.state != "delivered":
        yield f"its checkpoint is neither delivered nor forgotten: state {checkpoint.state}"
    elif checkpoint.request_id not in paid:
        request_id, names = checkpoint.request_id, name_jobs(paid)
        yield f"its checkpoint says that request {request_id} is delivered, but {names} was paid for"


def _overall_faults(plan: Plan, evidence: Evidence) -> Iterator[str]:
    if evidence.unfinished_uploads:
        yield f"multipart uploads were not completed: {sorted(evidence.unfinished_uploads)}"
    expected = {image.target for image in plan.images}
    expected |= {image.target(dag_id) for image in plan.shared for dag_id in SHARING_DAGS}
    expected |= {batch.target(stem) for batch in plan.batches for stem in batch.stems}
    if unexpected := evidence.stored.keys() - expected:
        yield f"unexpected objects are stored: {sorted(unexpected)}"
    known = {job["request_id"] for image in plan.images for job in jobs_of(image, evidence)}
    stems = [*(image.stem for image in plan.shared), *(stem for batch in plan.batches for stem in batch.stems)]
    known |= {job["request_id"] for stem in stems for job in evidence.jobs_of_photo(stem)}
    if unknown := {job["request_id"] for job in evidence.jobs} - known:
        yield f"jobs belong to no image: {sorted(unknown)}"
    yield from _overall_checkpoint_faults(plan, evidence)
    if evidence.triggers:
        yield f"Airflow still has triggers: {evidence.triggers}"
    for dag_id, runs in evidence.runs.items():
        if list(runs.values()) != ["success"]:
            yield f"the states of the runs of {dag_id} are {', '.join(runs.values())}"
    if evidence.leftover_images:
        yield f"temporary files were left behind: {list(evidence.leftover_images)}"
    if evidence.logs_with_key:
        yield f"log files contain the API key: {list(evidence.logs_with_key)}"


def _overall_checkpoint_faults(plan: Plan, evidence: Evidence) -> Iterator[str]:
    """No entry of a ledger is about a job that somebody still has to store. Only mapped tasks use the state store."""
    tasks = {(MAPPED_DAG, image.route, image.map_index) for image in plan.images}
    places = [(record.dag_id, record.task_id, record.map_index) for record in evidence.checkpoints]
    if strays := [place for place in places if place not in tasks]:
        yield f"checkpoints belong to no image: {[f'{dag}.{task}[{index}]' for dag, task, index in strays]}"
    paid = {job["request_id"] for job in evidence.jobs if job["state"] != "FAILED"}
    stored = frozenset(found.metadata.get("segmind-request-id") for found in evidence.stored.values())
    for uri, entry in evidence.ledger.items():
        if entry.state == "forgotten" or (BATCH_FOLDER in uri and _is_left_by_a_batch(entry, stored)):
            continue
        if entry.state != "delivered" or entry.request_id not in paid:
            yield f"the ledger's entry {uri} is not about a delivered job: {entry.state}, request {entry.request_id}"


def _is_left_by_a_batch(entry: LedgerRecord, stored: frozenset[str | None]) -> bool:
    """
    Whether a batch may have left an entry behind although the result is stored.

    A batch does not read the entry of an image whose result it finds stored, and the part that has stored it may have
    been killed, or S3 may have been down, before the entry's last writes. The verdict on the images counts their jobs.
    """
    return entry.state == "submitting" or (entry.state == "submitted" and entry.request_id in stored)
