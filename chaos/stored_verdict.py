"""What must be true of a stored result."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.evidence import StoredObject


def stored_faults(stored: StoredObject, paid: list[str], content_fault: str | None) -> Iterator[str]:
    """
    Say what is wrong with a stored result.

    :param stored: the result
    :param paid: the request ids of the jobs of its image that were paid for
    :param content_fault: what is wrong with its content
    """
    if content_fault:
        yield f"its stored result is wrong: {content_fault}"
    request_id = stored.metadata.get("segmind-request-id")
    if request_id not in paid:
        yield f"the metadata of its stored result names request {request_id}, but {name_jobs(paid)} was paid for"


def name_jobs(paid: list[str]) -> str:
    """Name some jobs in a sentence."""
    return " and ".join(paid) or "no job"
