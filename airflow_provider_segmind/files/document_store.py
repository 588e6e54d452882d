"""What a store of documents does, and how its documents are called; ``files/documents.py`` opens one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from airflow_provider_segmind.files.location import Location


@dataclass(frozen=True, slots=True)
class Document:
    """A document's content, and what changes with it: in S3 its ETag, elsewhere a digest of the content."""

    data: bytes
    version: str


class DocumentStore(Protocol):
    """
    Documents below a prefix, by their names, which may have slashes. All methods are safe to call from threads.

    :raises SegmindInputError: the store is missing, or refuses access
    :raises SegmindStorageError: the store is down or fails
    """

    def read(self, name: str) -> Document | None:
        """Return a document, ``None`` only where there certainly is none."""

    def create(self, name: str, data: bytes) -> str | None:
        """Write a new document and return its version; ``None``: there is one already."""

    def replace(self, name: str, data: bytes, version: str) -> str | None:
        """Write over this version and return the new one; ``None``: it has changed since, or is gone."""

    def write(self, name: str, data: bytes) -> str:
        """Write a document, replace one of that name, and return the version."""

    def delete(self, name: str) -> None:
        """Delete a document, if there is one."""

    def names(self, prefix: str = "") -> list[str]:
        """Return the names that begin with a text, sorted."""

    def label_of(self, name: str) -> str:
        """Return how errors and logs call a document."""


class DocumentsBelow:
    """What the stores have in common: where a document is, and how it is called."""

    def __init__(self, location: Location) -> None:
        self._location = location

    def label_of(self, name: str) -> str:
        """Return how errors and logs call a document."""
        return f"{self._location.label}{name}"

    def _locate(self, name: str) -> Location:
        base = self._location
        key = base.key + name if base.kind == "s3" else ""
        return replace(base, uri=base.uri + name, label=base.label + name, key=key)
