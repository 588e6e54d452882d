"""What must be true in the end, image by image and as a whole: from the evidence to what is wrong, and nothing else."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from chaos import photos
from chaos.evidence import Evidence
from chaos.plan import ImagePlan, Plan


@dataclass
class Verdict:
    """
    What was found.

    :param wrong_images: what is wrong, by image
    :param wrong: what is wrong as a whole
    :param posts: how many POSTs were accepted
    :param failed_jobs: how many of them failed at the service and were not billed
    :param tries: how many tries all tasks had
    :param most_tries: and the one that had most
    """

    wrong_images: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    wrong: list[str] = field(default_factory=list)
    posts: int = 0
    failed_jobs: int = 0
    tries: int = 0
    most_tries: int = 0

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong and not self.wrong_images


def judge(plan: Plan, evidence: Evidence) -> Verdict:
    """
    Return the verdict.

    :param plan: what was asked for
    :param evidence: what was found
    """
    verdict = Verdict(
        posts=len(evidence.jobs),
        failed_jobs=sum(job["state"] == "FAILED" for job in evidence.jobs),
        tries=sum(task.try_number for task in evidence.tasks),
        most_tries=max((task.try_number for task in evidence.tasks), default=0),
    )
    for number, image in enumerate(plan.images):
        if faults := list(_faults_of(plan, number, image, evidence)):
            verdict.wrong_images[image.stem] = faults
    verdict.wrong += _left_behind(plan, evidence)
    return verdict


def jobs_of(image: ImagePlan, evidence: Evidence) -> list[Mapping[str, Any]]:
    """
    Return the accepted POSTs of an image.

    :param image: the image
    :param evidence: what was found
    """
    if image.route.endswith("inline"):
        identity = f"sha256:{hashlib.sha256(evidence.sources[image.source]).hexdigest()}"
        return [job for job in evidence.jobs if job["image"] == identity]
    return [job for job in evidence.jobs if job["image"].endswith(f"/{image.stem}.jpg")]


def _faults_of(plan: Plan, number: int, image: ImagePlan, evidence: Evidence) -> Iterator[str]:
    states = {(task.task_id, task.map_index): task.state for task in evidence.tasks}
    if (state := states.get((image.route, image.map_index), "missing")) != "success":
        yield f"its task is {state}"
    jobs = jobs_of(image, evidence)
    billed = {job["request_id"] for job in jobs if job["state"] != "FAILED"}
    if len(billed) != 1:
        yield f"{len(jobs)} accepted POSTs, of which {len(billed)} did not fail at the service"
    stored = evidence.stored.get(image.target)
    if stored is None:
        yield "it is not stored"
        return
    if fault := photos.fault_of(stored.content, plan.seed, number, len(plan.images)):
        yield f"what is stored: {fault}"
    if stored.metadata.get("segmind-request-id") not in billed:
        yield "what is stored comes from no job of its own"


def _left_behind(plan: Plan, evidence: Evidence) -> Iterator[str]:
    if evidence.uploads:
        yield f"unfinished multipart uploads: {sorted(evidence.uploads)}"
    if extra := evidence.stored.keys() - {image.target for image in plan.images}:
        yield f"objects that nobody asked for: {sorted(extra)}"
    known = {job["request_id"] for image in plan.images for job in jobs_of(image, evidence)}
    if strangers := {job["request_id"] for job in evidence.jobs} - known:
        yield f"jobs of no image: {sorted(strangers)}"
    if evidence.triggers:
        yield f"{evidence.triggers} triggers are left in Airflow"
    if evidence.open_checkpoints:
        yield f"{evidence.open_checkpoints} checkpoints in Airflow are about jobs that are not delivered"
    if evidence.run_state != "success":
        yield f"the run is {evidence.run_state}"
    if evidence.pictures:
        yield f"temporary files: {list(evidence.pictures)}"
    if evidence.key_in:
        yield f"the API key is in {list(evidence.key_in)}"
