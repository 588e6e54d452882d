"""What must be true at the end of a run, decided from the evidence alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from chaos import photos
from cluster.evidence import Evidence
from cluster.plan import REQUESTS_PER_MINUTE, SEED, Part, Photo

LEAST_SHARE = 0.1
"""The share of a DAG's work that each of the hosts that were there from the start must have done, to count as used."""


def find_faults(parts: Sequence[Part], evidence: Evidence, *, kills_planned: bool = True) -> list[str]:
    """
    Return what is not as it must be, one sentence each.

    :param parts: what the DAGs had to do
    :param evidence: what was found
    :param kills_planned: whether a worker and a triggerer were to be killed
    """
    count = max(photo.number for part in parts for photo in part.photos) + 1
    jobs: dict[str, list[str]] = defaultdict(list)
    for job in evidence.jobs:
        jobs["/".join(job["image"].split("/")[-3:])].append(job["request_id"])
    found = [
        f"{photo.source}: {fault}"
        for part in parts
        for photo in part.photos
        for fault in _photo_faults(photo, count, jobs.pop(f"{photo.folder}/incoming/{photo.stem}.jpg", []), evidence)
    ]
    found += [f"a job belongs to none of the photos: {image}" for image in jobs]
    expected = {photo.target for part in parts for photo in part.photos}
    found += [f"an unexpected object is stored: {uri}" for uri in sorted(evidence.stored.keys() - expected)]
    for part in parts:
        found += _part_faults(part, evidence)
    if kills_planned:
        found += _kill_faults(parts, evidence)
    return found + list(_limit_faults(evidence)) + list(_host_faults(evidence))


def _photo_faults(photo: Photo, count: int, request_ids: list[str], evidence: Evidence) -> Iterator[str]:
    if len(request_ids) != 1:
        yield f"{len(request_ids)} POSTs were accepted"
    stored = evidence.stored.get(photo.target)
    if stored is None:
        yield "its result is not stored"
        return
    if fault := photos.find_fault(stored.content, SEED, photo.number, count):
        yield f"its stored result is wrong: {fault}"
    if (named := stored.metadata.get("segmind-request-id")) not in request_ids:
        yield f"its stored result names request {named}, which is not one that was paid for"


def _part_faults(part: Part, evidence: Evidence) -> Iterator[str]:
    if (state := evidence.run_states.get(part.dag_id)) != "success":
        yield f"the run of {part.dag_id} is {state}"
    states = Counter(task.state for task in evidence.tasks if task.dag_id == part.dag_id)
    if states != {"success": part.tasks}:
        yield f"{part.dag_id} has {dict(states)} instead of {part.tasks} tasks that succeeded"
    started = {host: count for (dag_id, host), count in evidence.started_triggers.items() if dag_id == part.dag_id}
    if spread := _uneven(started, 2):
        yield f"the triggers of {part.dag_id} were not spread over two triggerers: {spread}"


def _kill_faults(parts: Sequence[Part], evidence: Evidence) -> Iterator[str]:
    for role in ("worker", "triggerer"):
        for part in parts:
            if not any(kill.role == role and kill.work.get(part.dag_id) for kill in evidence.kills):
                yield f"no {role} was killed while it worked for {part.dag_id}"


def _limit_faults(evidence: Evidence) -> Iterator[str]:
    limit = evidence.limit
    if limit.busiest_minute > REQUESTS_PER_MINUTE:
        yield f"{limit.busiest_minute} requests were sent in a minute, and the limit is {REQUESTS_PER_MINUTE}"
    if limit.refused:
        yield f"{limit.refused} requests were refused with a 429"


def _host_faults(evidence: Evidence) -> Iterator[str]:
    if spread := _uneven(evidence.worker_parts, 2):
        yield f"the tasks were not spread over two workers: {spread}"
    if evidence.triggers:
        yield f"Airflow still has triggers: {evidence.triggers}"


def _uneven(counts: Mapping[str, int], hosts: int) -> str | None:
    """Describe the counts unless at least so many hosts have a fair share of the whole."""
    least = LEAST_SHARE * sum(counts.values())
    if sum(count >= least and count > 0 for count in counts.values()) >= hosts:
        return None
    return ", ".join(f"{host} {count}" for host, count in sorted(counts.items())) or "nothing was done"
