"""
What one worker part of a batch leaves for the next: the jobs in flight, the inputs as they were listed, and counters.

None of it decides whether something is paid for; the ledger does. So a part that is killed before it writes its state
costs the next one some requests and no money. It is kept below the destination, because it grows with a wave, and a
trigger, an event or an XCom must not.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_provider_segmind.api.models import is_request_id, parse_number
from airflow_provider_segmind.exceptions import SegmindCheckpointError
from airflow_provider_segmind.files.documents import DocumentStore

VERSION = 1
STATE = "state.json"
KEPT_SUBMITS = 120  # seconds


@dataclass(slots=True)
class InFlight:
    """
    A job that is submitted and not yet stored.

    :param key: of its input
    :param input_digest: with ``image_identity`` what its ledger entry is found by
    :param deadline: epoch seconds at which its wait ends
    :param ended: whether a watch has seen its end
    :param store_attempts: how often storing its result has failed
    """

    key: str
    request_id: str
    submitted_at: float
    deadline: float
    input_digest: str
    image_identity: str | None = None
    ended: bool = False
    store_attempts: int = 0


@dataclass(slots=True)
class BatchState:
    """
    The state of one batch of one run.

    :param inputs: a digest of the operator's parameters; other parameters are another batch
    :param tries: Airflow's ``max_tries`` in the try that wrote this, which a user's Clear raises
    :param succeeded: whether the task has reached its end
    :param started_at: epoch seconds
    :param is_retry: whether an earlier try has worked on this batch. Its process may have died before it wrote rows
    :param parts: worker parts so far
    :param requests: requests to Segmind so far
    :param spent_before: US dollars that rows which are gone had cost: those of a run that a user has cleared
    :param progress_at: epoch seconds at which a job was last submitted or an input done with
    :param manifest_at: epoch seconds at which the manifest was last written
    :param stopped: why nothing more is submitted, ``None``: it is
    :param submits: [epoch second, number] of the last submits
    :param limiter: what the rate limiter of the process before has handed over
    """

    inputs: str
    started_at: float
    tries: int | None = None
    succeeded: bool = False
    is_retry: bool = False
    parts: int = 0
    requests: int = 0
    spent_before: float = 0.0
    progress_at: float = 0.0
    manifest_at: float = 0.0
    stopped: str | None = None
    limiter: dict[str, Any] = field(default_factory=dict)
    submits: list[tuple[int, int]] = field(default_factory=list)
    in_flight: list[InFlight] = field(default_factory=list)

    def count_submit(self, moment: float) -> None:
        """Note a submit, and forget those of more than two minutes ago."""
        second = int(moment)
        counts = Counter(dict(self.submits))
        counts[second] += 1
        self.submits[:] = [(each, count) for each, count in counts.items() if each >= second - KEPT_SUBMITS]

    @classmethod
    def read(cls, documents: DocumentStore) -> BatchState | None:
        """Return the state, ``None`` if there is none; raise if it cannot be read."""
        document = documents.read(STATE)
        if document is None:
            return None
        try:
            values: dict[str, Any] = json.loads(document.data)
            version = values.pop("version")
            if version != VERSION:
                raise _unreadable(documents, f"its version is {version!r}, and this provider reads version {VERSION}")
            values["submits"] = [(int(second), int(count)) for second, count in values["submits"]]
            values["in_flight"] = [_in_flight(row) for row in values["in_flight"]]
            return cls(**values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _unreadable(documents, type(error).__name__) from error

    def write(self, documents: DocumentStore) -> None:
        """Write the state. Chaos seam: batch_state."""
        documents.write(STATE, json.dumps({"version": VERSION, **asdict(self)}).encode())


def _in_flight(row: Mapping[str, Any]) -> InFlight:
    job = InFlight(**row)
    if not is_request_id(job.request_id) or None in (parse_number(job.submitted_at), parse_number(job.deadline)):
        raise ValueError("in_flight")
    return job


def _unreadable(documents: DocumentStore, why: str) -> SegmindCheckpointError:
    return SegmindCheckpointError(
        f"The batch's state {documents.label_of(STATE)} cannot be read ({why}), so nothing was submitted. Install the "
        "provider's version that wrote it, or delete this object and clear the task: the ledger still knows the jobs "
        "that are paid for."
    )
