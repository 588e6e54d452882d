"""What a task notes of its job: enough to find it again, nothing that is secret."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from airflow_provider_segmind.api.inputs import valid_request_id
from airflow_provider_segmind.api.values import read_number


def digest_of(model: str, inputs: Mapping[str, object]) -> str:
    """Return the digest of a job's inputs as the DAG gives them."""
    plain = json.dumps([model, inputs], sort_keys=True, default=str)
    return hashlib.sha256(plain.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """
    What the note says. Plain JSON, without image data or signatures.

    :param digest: of the inputs as the DAG gives them
    :param at: epoch seconds of the submit
    :param request_id: ``None`` while *submitting*
    :param wanted: the fingerprint of the payload, to find it in the history
    """

    model: str
    digest: str
    at: float
    request_id: str | None = None
    wanted: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return what is stored."""
        return {"state": "submitted" if self.request_id else "submitting", **asdict(self)}

    @classmethod
    def read(cls, value: object) -> Entry | None:
        """Read what was stored, by this or another version; ``None`` where it cannot be understood."""
        if not isinstance(value, Mapping):
            return None
        model, digest, request_id = value.get("model"), value.get("digest"), value.get("request_id")
        at, wanted = read_number(value.get("at")), value.get("wanted")
        if not isinstance(model, str) or not isinstance(digest, str) or at is None or not 0 <= at < 1e11:
            return None
        return cls(
            model,
            digest,
            at,
            request_id if isinstance(request_id, str) and valid_request_id(request_id) else None,
            dict(wanted) if isinstance(wanted, Mapping) else {},
        )


class Note(Protocol):
    """Where a task keeps its entry across tries."""

    def read(self) -> Entry | None:
        """Return the entry, ``None`` where there is none."""

    def write(self, entry: Entry) -> None:
        """Keep an entry; only when this has returned may a POST follow."""

    def forget(self) -> None:
        """Drop the entry."""
