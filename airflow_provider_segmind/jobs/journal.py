"""
The journal of a batch: one row for each image that is done with, and the manifest that is made of them.

Rows are written as the run goes, a few dozen to an object, so that a killed process loses at most the newest. An image
whose row is lost is worked on again, which pays nothing: its ledger entry and what is stored at its destination are
what decide about money. When a worker part ends, all rows are put together into one object, so the next part reads few.

The manifest says the same to people: a line for each input, in their order, without the keys by which the journal
knows an image.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from airflow_provider_segmind.exceptions import SegmindCheckpointError
from airflow_provider_segmind.files.documents import DocumentStore

COMPACTED = "journal.jsonl"
SHARDS = "journal/"
MANIFEST, FAILED = "manifest.jsonl", "failed.jsonl"
FLUSH_ROWS, FLUSH_SECONDS = 50, 5.0


class RowStatus(StrEnum):
    """What became of an input."""

    COMPLETED = "completed"
    SKIPPED = "skipped"  # its result was there already
    FAILED = "failed"
    BLOCKED = "blocked"  # by content moderation
    MISSING = "missing"  # the source does not exist

    @property
    def is_open(self) -> bool:
        """Whether a retry works on the input again."""
        return self in (RowStatus.FAILED, RowStatus.MISSING)


@dataclass(frozen=True, slots=True)
class Row:
    """
    One line of the journal.

    :param key: tells the input from all others; a digest
    :param source: the input's public name, without a signature or image data
    :param cost: US dollars, ``None`` where nothing was paid or Segmind did not say
    :param seconds: from the job's submit to its end, as Segmind measured it
    """

    key: str
    source: str
    status: RowStatus
    uri: str | None = None
    request_id: str | None = None
    cost: float | None = None
    seconds: float | None = None
    error: str | None = None

    def for_manifest(self) -> dict[str, Any]:
        """Return the row as people read it."""
        return {name: value for name, value in asdict(self).items() if name != "key"}


class Journal:
    """
    The rows of one run, newest of each key. It is not thread-safe: one thread of a worker part owns it.

    :param documents: where the run's state is kept
    :param part: the number of the worker part, which names its shards
    """

    def __init__(self, documents: DocumentStore, part: int) -> None:
        self.documents = documents
        self.rows: dict[str, Row] = {}
        self._part = part
        self._shards: list[str] = []
        self._unwritten: list[Row] = []
        self._flushed_at = time.monotonic()

    def load(self) -> None:
        """Read the rows of all parts before."""
        self._shards = self.documents.names(SHARDS)
        for name in (COMPACTED, *self._shards):
            document = self.documents.read(name)
            for row in self._parse(name, document.data if document else b""):
                self.rows[row.key] = row

    def reopen(self) -> None:
        """Forget the rows of inputs that a retry works on again."""
        self.rows = {key: row for key, row in self.rows.items() if not row.status.is_open}

    def add(self, row: Row) -> None:
        """Add a row; it is written with others, at the latest after ``FLUSH_SECONDS`` when more come."""
        self.rows[row.key] = row
        self._unwritten.append(row)
        if len(self._unwritten) >= FLUSH_ROWS or time.monotonic() - self._flushed_at >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is unwritten."""
        self._flushed_at = time.monotonic()
        if not self._unwritten:
            return
        name = f"{SHARDS}{self._part:06d}-{len(self._shards):06d}.jsonl"
        # Chaos seam: journal_shard
        self.documents.write(name, _lines(map(asdict, self._unwritten)))
        self._shards.append(name)
        self._unwritten = []

    def compact(self) -> None:
        """
        Put all rows into one object.

        A process that dies before the shards are deleted leaves rows twice, which does no harm: they are the same.
        """
        self._unwritten = []
        # Chaos seam: journal_compact
        self.documents.write(COMPACTED, _lines(map(asdict, self.rows.values())))
        for name in self._shards:
            self.documents.delete(name)
        self._shards = []

    def write_manifest(self, keys: Iterable[str]) -> None:
        """
        Write the manifest, and ``failed.jsonl`` with those of its rows that a later run can take as its list.

        :param keys: of the inputs, in order; one that has no row yet gets no line
        """
        rows = [self.rows[key] for key in keys if key in self.rows]
        failed = [row for row in rows if row.status not in (RowStatus.COMPLETED, RowStatus.SKIPPED)]
        # Chaos seam: failed_list, manifest
        self.documents.write(FAILED, _lines(row.for_manifest() for row in failed))
        self.documents.write(MANIFEST, _lines(row.for_manifest() for row in rows))

    def _parse(self, name: str, data: bytes) -> Iterator[Row]:
        names = {field.name for field in fields(Row)}
        for line in data.splitlines():
            try:
                values = json.loads(line)
                yield Row(**{**{key: values[key] for key in names}, "status": RowStatus(values["status"])})
            except (ValueError, KeyError, TypeError) as error:
                raise SegmindCheckpointError(
                    f"The batch's journal {self.documents.label_of(name)} cannot be read ({type(error).__name__}), so "
                    "nothing was submitted. Delete this object and clear the task: its images are looked at again, and "
                    "what is paid for is not paid for again."
                ) from error


def _lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
