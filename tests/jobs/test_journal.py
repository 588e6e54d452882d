"""The journal of a batch on a disk: what a killed process leaves, and the manifest that is made of it."""

from __future__ import annotations

import json

import pytest

from airflow_provider_segmind.exceptions import SegmindCheckpointError
from airflow_provider_segmind.files.documents import open_documents
from airflow_provider_segmind.files.location import parse_location
from airflow_provider_segmind.jobs.journal import (
    COMPACTED,
    FAILED,
    FLUSH_ROWS,
    MANIFEST,
    SHARDS,
    Journal,
    Row,
    RowStatus,
)


@pytest.fixture
def documents(tmp_path):
    return open_documents(parse_location("destination", f"{tmp_path}/"), aws_conn_id=None)


def row(key, status=RowStatus.COMPLETED, **facts):
    return Row(key, f"{key}.jpg", status, **facts)


def loaded(documents, part=9):
    journal = Journal(documents, part)
    journal.load()
    return journal


def lines(documents, name):
    return [json.loads(line) for line in documents.read(name).data.splitlines()]


def test_rows_that_were_flushed_are_read_back(documents):
    journal = Journal(documents, 1)
    journal.add(row("a", uri="out/a.png", cost=0.04))
    journal.flush()

    assert loaded(documents).rows == {"a": row("a", uri="out/a.png", cost=0.04)}


def test_many_rows_are_written_without_a_flush(documents):
    journal = Journal(documents, 1)
    for number in range(FLUSH_ROWS):
        journal.add(row(str(number)))

    assert len(loaded(documents).rows) == FLUSH_ROWS


def test_a_later_row_of_the_same_input_counts(documents):
    for part, status in enumerate([RowStatus.FAILED, RowStatus.COMPLETED]):
        journal = Journal(documents, part)
        journal.add(row("a", status))
        journal.flush()

    assert loaded(documents).rows["a"].status is RowStatus.COMPLETED


def test_compaction_keeps_all_rows_in_one_object(documents):
    journal = Journal(documents, 1)
    for key in "abc":
        journal.add(row(key))
        journal.flush()
    journal.compact()

    assert (documents.names(), sorted(loaded(documents).rows)) == ([COMPACTED], ["a", "b", "c"])


def test_a_process_that_dies_in_the_compaction_leaves_each_row_once(documents):
    journal = Journal(documents, 1)
    journal.add(row("a"))
    journal.flush()
    documents.write(COMPACTED, documents.read(documents.names(SHARDS)[0]).data)

    assert list(loaded(documents).rows) == ["a"]


def test_a_retry_forgets_what_failed_or_was_missing_and_nothing_else(documents):
    journal = Journal(documents, 1)
    for status in RowStatus:
        journal.add(row(status.value, status))
    journal.reopen()

    assert sorted(journal.rows) == ["blocked", "completed", "skipped"]


def test_the_manifest_is_in_the_order_of_the_inputs_and_without_keys(documents):
    journal = Journal(documents, 1)
    for key in "cab":
        journal.add(row(key))
    journal.write_manifest("abcd")

    assert [line["source"] for line in lines(documents, MANIFEST)] == ["a.jpg", "b.jpg", "c.jpg"]
    assert "key" not in lines(documents, MANIFEST)[0]


def test_the_list_of_failures_has_what_is_neither_completed_nor_skipped(documents):
    journal = Journal(documents, 1)
    for status in RowStatus:
        journal.add(row(status.value, status))
    journal.write_manifest([status.value for status in RowStatus])

    assert [line["status"] for line in lines(documents, FAILED)] == ["failed", "blocked", "missing"]


@pytest.mark.parametrize("damage", [b"{", b"[]\n", b'{"key": "a"}\n', b'{"key":"a","source":"a","status":"lost"}\n'])
def test_a_damaged_journal_is_an_error_that_names_it(documents, damage):
    documents.write(COMPACTED, damage)

    with pytest.raises(SegmindCheckpointError, match=r"journal\.jsonl cannot be read"):
        loaded(documents)
