"""One entry of the ledger: its name, what is stored, and how it changes. ``jobs/ledger.py`` says what entries mean."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from airflow_provider_segmind.api.models import parse_json, parse_number
from airflow_provider_segmind.exceptions import SegmindCheckpointError
from airflow_provider_segmind.jobs.checkpoint import DELIVERED_KEPT_FOR, Checkpoint

MAX_WAITING = 200
"""Tasks that an entry remembers as waiting for its result; of more, the first are forgotten."""


class EntryState(StrEnum):
    """What an entry says about its job."""

    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    DELIVERED = "delivered"
    FORGOTTEN = "forgotten"


@dataclass(frozen=True, slots=True)
class Entry:
    """
    What the ledger knows of one job, and of the tasks that want its image.

    :param owner: the task that was the last to write *submitting*
    :param waiting: tasks that have asked for the image and not stored it
    :param delivered_to: tasks that have stored it, also from an earlier job, with their ``max_tries`` and when (epoch
        seconds)
    """

    state: EntryState
    checkpoint: Checkpoint
    owner: str
    waiting: tuple[str, ...] = ()
    delivered_to: Mapping[str, tuple[int | None, float]] = field(default_factory=dict)

    def as_json(self) -> bytes:
        """Return what is stored; without keys, image data, and addresses of results."""
        value = self.checkpoint.as_json() | {
            "state": self.state,
            "owner": self.owner,
            "waiting": self.waiting,
            "delivered_to": {task: {"tries": tries, "at": at} for task, (tries, at) in self.delivered_to.items()},
        }
        return json.dumps(value, indent=1).encode()

    @classmethod
    def parse(cls, data: bytes, unreadable: Callable[[str], SegmindCheckpointError]) -> Entry:
        """Read what :meth:`as_json` returned; raise what ``unreadable`` makes of a reason for anything else."""
        value = parse_json(data.decode("utf-8", "replace"))
        if not isinstance(value, dict):
            raise unreadable("it is not a JSON object")
        is_submitting = value.get("request_id") is None
        # A checkpoint knows only the states that its own task can see.
        checkpoint = Checkpoint.parse(value | {"state": "submitting" if is_submitting else "submitted"}, unreadable)
        state, owner, waiting = (value.get(name) for name in ("state", "owner", "waiting"))
        delivered_to = value.get("delivered_to")
        if (
            state not in list(EntryState)
            or (state == EntryState.SUBMITTING and not is_submitting)
            or (state in (EntryState.SUBMITTED, EntryState.DELIVERED) and is_submitting)
            or not isinstance(owner, str)
            or not isinstance(waiting, list)
            or not isinstance(delivered_to, Mapping)
        ):
            raise unreadable("a field is missing or has the wrong type")
        deliveries = {}
        for task, delivery in delivered_to.items():
            at = parse_number(delivery.get("at")) if isinstance(delivery, Mapping) else None
            if at is None:
                raise unreadable("a field is missing or has the wrong type")
            deliveries[task] = (delivery.get("tries"), at)
        return cls(EntryState(state), checkpoint, owner, tuple(map(str, waiting)), deliveries)

    def has_request(self, checkpoint: Checkpoint) -> bool:
        """Whether the entry and a checkpoint name the same request."""
        return checkpoint.request_id is not None and checkpoint.request_id == self.checkpoint.request_id

    def is_about(self, checkpoint: Checkpoint) -> bool:
        """Whether the entry is about this job, or about its submit, if the write of its request id was lost."""
        is_its_submit = self.checkpoint.request_id is None and self.checkpoint.submitted_at == checkpoint.submitted_at
        return is_its_submit or self.has_request(checkpoint)

    def says_the_same_as(self, other: Entry | None) -> bool:
        """Whether nothing has happened to the job between the two; more tasks may wait for it."""
        return other is not None and (self.state, self.owner, self.checkpoint) == (
            other.state,
            other.owner,
            other.checkpoint,
        )

    def awaited_by(self, task: str) -> Entry:
        """Return the entry with one more task that waits for the image."""
        others = tuple(other for other in self.waiting if other != task)
        return replace(self, waiting=(*others, task)[-MAX_WAITING:])

    def after_delivery(self, task: str, tries: int | None, now: float) -> Entry:
        """Return the entry once a task has stored the result. Deliveries of more than a day ago are dropped."""
        recent = {
            other: (allowed, at)
            for other, (allowed, at) in self.delivered_to.items()
            if now - at < DELIVERED_KEPT_FOR.total_seconds()
        }
        waiting = tuple(other for other in self.waiting if other != task)
        return replace(self, state=EntryState.DELIVERED, waiting=waiting, delivered_to={**recent, task: (tries, now)})


def entry_prefix(account: str, input_digest: str) -> str:
    """Return the beginning of the names of all entries for the same inputs, whatever the image's identity."""
    host = account.rpartition(":")[0]
    return hashlib.sha256(f"{host} {input_digest}".encode()).hexdigest() + "-"


def entry_name(account: str, input_digest: str, image_identity: str) -> str:
    """Return the name of an entry; ``image_identity`` is empty for a job without an image."""
    identity = hashlib.sha256(image_identity.encode()).hexdigest()[:16] if image_identity else "0" * 16
    return f"{entry_prefix(account, input_digest)}{identity}.json"


def unreadable_entry(label: str, why: str) -> SegmindCheckpointError:
    """Return the error about an entry that may describe a paid job."""
    return SegmindCheckpointError(
        f"The ledger's entry {label} cannot be read: {why}. It may describe a job that is paid for, so nothing was "
        "submitted. Install the same version of the provider everywhere. If the entry is damaged, look the job up in "
        "Segmind's request history, then delete that object to submit a new job."
    )
