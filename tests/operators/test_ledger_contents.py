"""What the ledger tells jobs apart by, what it holds, and how it is given to an operator."""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_segmind.exceptions import (
    SegmindCheckpointError,
    SegmindInputError,
)
from airflow_provider_segmind.files.documents import FileDocuments
from airflow_provider_segmind.operators.bria import BriaEraseForegroundOperator
from tests.operators.ledgers import change_entry, entries
from tests.photos import photo

both = pytest.mark.parametrize("deferrable", [True, False])


# ---------------------------------------------------------------------- images


def test_other_flags_are_another_job(task, segmind):
    task("run-1").submit()
    task("run-2", preserve_alpha=False).submit()

    assert len(segmind.jobs) == 2


def test_a_replaced_photo_is_another_job(task, segmind, image):
    task("run-1").submit()
    Path(image).write_bytes(photo(shade=9))
    task("run-2").submit()

    assert len(segmind.jobs) == 2


def test_a_photo_that_was_moved_away_does_not_stop_its_job(task, segmind, image):
    task("run-1").submit()
    Path(image).unlink()
    facts = task("run-2").run()

    assert [job.request_id for job in segmind.jobs] == [facts["request_id"]]


def test_a_photo_that_is_missing_and_has_no_job_fails_for_good(task, segmind, image):
    Path(image).unlink()
    with pytest.raises(SegmindInputError, match="no such file"):
        task().run()

    assert segmind.requests.counts == {}


# ---------------------------------------------------------------------- the account


def test_a_job_goes_on_after_its_accounts_key_was_rotated(task, segmind, folder):
    task("run-1").submit()
    host = entries(folder)[0]["account"].rpartition(":")[0]
    change_entry(folder, account=f"{host}:of-the-key-before")
    task("run-2").run()

    assert len(segmind.jobs) == 1


def test_a_job_of_another_account_is_not_bought_again(task, segmind, folder):
    task("run-1").submit()
    segmind.faults.add("expire_record", times=None)
    segmind.faults.add("error", on="record", status=404, times=None)
    host = entries(folder)[0]["account"].rpartition(":")[0]
    change_entry(folder, account=f"{host}:of-the-key-before", submitted_at=time.time() - 4000)
    with pytest.raises(SegmindInputError, match=r"another API key or base URL.*delete the ledger's entry"):
        task("run-2").run()

    assert len(segmind.jobs) == 1


def test_the_ledger_does_not_hold_the_key_or_the_image(task, segmind, folder):
    task().run()
    (path,) = folder.glob("*.json")

    assert segmind.key not in path.read_text()
    assert len(path.read_bytes()) < 2000


# ---------------------------------------------------------------------- entries that cannot be read


@pytest.mark.parametrize("damage", [{"version": 99}, {"model": None}, {"state": "?"}])
def test_an_entry_that_cannot_be_read_fails_the_try_and_posts_nothing(task, segmind, folder, damage):
    task("run-1").submit()
    change_entry(folder, **damage)
    with pytest.raises(SegmindCheckpointError, match=r"\.json cannot be read.*delete that object") as failed:
        task("run-2").run()

    assert not isinstance(failed.value, AirflowFailException)
    assert len(segmind.jobs) == 1


def test_a_ledger_that_fails_fails_the_try_and_posts_nothing(task, segmind, monkeypatch):
    def fail(_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr("airflow_provider_segmind.files.documents.Path.read_bytes", fail)
        with pytest.raises(SegmindCheckpointError, match=r"Input/output error.*nothing was submitted"):
            task(image=base64.b64encode(photo()).decode()).run()

    assert "submit" not in segmind.requests.counts


@pytest.mark.parametrize(("deferrable", "reads"), [(True, 2), (False, 1)])
def test_a_job_takes_three_writes_and_at_most_two_reads(task, monkeypatch, deferrable, reads):
    counts = Counter()

    def count(kind, method):
        original = getattr(FileDocuments, method)

        def counted(*arguments):
            counts[kind] += 1
            return original(*arguments)

        monkeypatch.setattr(FileDocuments, method, counted)

    count("reads", "read")
    count("writes", "create")
    count("writes", "replace")
    task(deferrable=deferrable).run()

    assert counts["writes"] == 3
    assert counts["reads"] - 2 == reads  # a local file is read once more by each of its two replacements


# ---------------------------------------------------------------------- the parameter


def test_the_ledger_of_the_connection_is_used_where_the_operator_names_none(erase, segmind, folder, monkeypatch):
    connection = json.loads(segmind.connection)
    extra = connection.get("extra") or {}
    extra = json.loads(extra) if isinstance(extra, str) else extra
    connection["extra"] = json.dumps({**extra, "ledger": f"file://{folder}"})
    monkeypatch.setenv("AIRFLOW_CONN_SEGMIND_DEFAULT", json.dumps(connection))
    with_stores = [erase(), erase(durable=False)]
    for number, each in enumerate(with_stores):
        each.ti.run_id = f"run-{number}"
        each.submit()

    assert len(segmind.jobs) == 1
    assert with_stores[0].store.values == {}  # the ledger is the only checkpoint store
    assert len(entries(folder)) == 1


@pytest.mark.parametrize(
    ("ledger", "words"), [("https://host/x/", "cannot be written to"), ("relative/", "relative path"), (5, "type int")]
)
def test_a_ledger_that_cannot_be_one_is_refused_as_the_dag_is_parsed(ledger, words):
    with pytest.raises(SegmindInputError, match=f"^ledger is .*{words}"):
        BriaEraseForegroundOperator(task_id="erase", image="https://photos.example/a.jpg", ledger=ledger)


def test_a_ledger_may_be_a_template():
    operator = BriaEraseForegroundOperator(
        task_id="erase", image="https://photos.example/a.jpg", ledger="{{ var.value.ledger }}"
    )
    assert "ledger" in operator.template_fields


def test_a_ledger_in_s3_is_written_with_the_upload_arguments(erase, segmind, s3):
    for run in ("run-1", "run-2"):
        task = erase(durable=False, ledger=f"s3://{s3.bucket}/ledger", s3_extra_args={"ServerSideEncryption": "AES256"})
        task.ti.run_id = run
        task.submit()

    assert len(segmind.jobs) == 1
    (key,) = s3.keys()
    assert key.startswith("ledger/")
    assert s3.get(key)["ServerSideEncryption"] == "AES256"
