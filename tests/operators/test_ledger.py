"""A ledger: one POST for each image, whoever asks, without Airflow's task state store as before Airflow 3.3."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_segmind.exceptions import (
    SegmindCheckpointError,
    SegmindInputError,
    SegmindOutputError,
    SegmindSubmitPendingError,
)
from airflow_provider_segmind.files.destination import parse_destination
from airflow_provider_segmind.files.documents import FileDocuments
from airflow_provider_segmind.hooks.segmind import SegmindHook
from airflow_provider_segmind.jobs import ledger as module
from airflow_provider_segmind.jobs.descriptions import describe_image_job
from airflow_provider_segmind.jobs.ledger import LedgerCheckpoints, open_ledger
from airflow_provider_segmind.jobs.run import JobRun
from airflow_provider_segmind.operators.bria import BriaEraseForegroundOperator
from tests.operators.task import Crash
from tests.photos import photo, subject_pixels

both = pytest.mark.parametrize("deferrable", [True, False])


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "ledger"


@pytest.fixture
def task(erase, folder, tmp_path):
    """Return a function that makes a task of a run, with a destination of its own."""

    def make(run="run-1", index=-1, tries=0, **options):
        destination = str(tmp_path / run / f"{index}.png")
        made = erase(durable=False, **{"ledger": str(folder), "destination": destination, **options})
        made.ti.run_id, made.ti.map_index, made.ti.max_tries = run, index, tries
        return made

    return make


@pytest.fixture
def quick_looks(monkeypatch):
    """Let a task look soon again what became of another one's submit."""
    monkeypatch.setattr(module, "PENDING_PAUSE", 0.2)


def entries(folder: Path):
    return [json.loads(path.read_text()) for path in folder.glob("*.json")]


def change_entry(folder: Path, **fields):
    (path,) = folder.glob("*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def die(monkeypatch, method, *, before=True, when=lambda *_: True):
    """Let a process die before or after a method of the ledger, once."""
    original, alive = getattr(LedgerCheckpoints, method), [True]

    def dying(self, *arguments):
        dies = bool(alive) and when(*arguments)
        if dies:
            alive.clear()
        if dies and before:
            raise Crash
        result = original(self, *arguments)
        if dies:
            raise Crash
        return result

    monkeypatch.setattr(LedgerCheckpoints, method, dying)


def crash(task):
    with pytest.raises(Crash):
        task.run()


# ---------------------------------------------------------------------- deaths, before Airflow 3.3


@both
def test_a_crash_between_the_post_and_its_checkpoint_pays_once(task, segmind, monkeypatch, folder, deferrable):
    die(monkeypatch, "write", when=lambda checkpoint: checkpoint.request_id is not None)
    crash(task(deferrable=deferrable))
    assert [entry["state"] for entry in entries(folder)] == ["submitting"]
    task(deferrable=deferrable).run()

    assert len(segmind.jobs) == 1


@both
def test_a_crash_after_the_checkpoint_pays_once(task, segmind, monkeypatch, deferrable):
    die(monkeypatch, "write", before=False, when=lambda checkpoint: checkpoint.request_id is not None)
    crash(task(deferrable=deferrable))
    facts = task(deferrable=deferrable).run()

    assert [job.request_id for job in segmind.jobs] == [facts["request_id"]]


@both
def test_a_crash_between_the_stored_result_and_its_mark_pays_once(task, segmind, monkeypatch, deferrable):
    die(monkeypatch, "mark_delivered")
    crash(task(deferrable=deferrable))
    task(deferrable=deferrable).run()

    assert len(segmind.jobs) == 1


@both
def test_a_retry_of_a_success_that_airflow_did_not_record_pays_nothing(task, segmind, folder, deferrable):
    first = task(tries=3, deferrable=deferrable).run()
    Path(first["uri"]).unlink()
    again = task(tries=3, deferrable=deferrable).run()

    assert len(segmind.jobs) == 1
    assert Path(again["uri"]).exists()
    assert [entry["state"] for entry in entries(folder)] == ["delivered"]


@both
def test_a_failure_may_be_retried_since_the_retry_knows_of_the_job(task, segmind, quick_retries, deferrable):
    broken = segmind.faults.add("truncated_file", times=None)
    with pytest.raises(SegmindOutputError):
        task(deferrable=deferrable).run()
    segmind.faults.remove(broken.id)
    task(deferrable=deferrable).run()

    assert len(segmind.jobs) == 1


def test_airflows_deferral_has_a_timeout_since_the_retry_knows_of_the_job(task):
    assert task().submit().timeout is not None


# ---------------------------------------------------------------------- whoever asks


@both
def test_a_new_run_goes_on_with_the_job_of_a_run_that_was_deleted(task, segmind, deferrable):
    task("run-1").submit()
    facts = task("run-2", deferrable=deferrable).run()

    assert [job.request_id for job in segmind.jobs] == [facts["request_id"]]


def test_a_mapped_list_that_changes_its_order_goes_on_with_its_jobs(task, segmind, tmp_path):
    images = [str(tmp_path / name) for name in ("a.png", "b.png")]
    for number, image in enumerate(images):
        Path(image).write_bytes(photo(shade=number))
    for index in (0, 1):
        task(index=index, image=images[index]).submit()
    for index in (0, 1):
        task(index=index, image=images[1 - index]).run()

    assert len(segmind.jobs) == 2


@both
def test_two_tasks_on_one_image_share_its_job_and_each_store_its_result(task, segmind, deferrable):
    task("run-1").submit()
    second = task("run-2", deferrable=deferrable).run()
    first = task("run-1", deferrable=deferrable).run()

    assert len(segmind.jobs) == 1
    assert first["uri"] != second["uri"]
    assert all(subject_pixels(Path(facts["uri"]).read_bytes()) == 0 for facts in (first, second))


def test_jobs_that_start_on_one_image_at_the_same_moment_are_one(segmind, image, folder, tmp_path, quick_looks):
    together, stored = threading.Barrier(4), []

    def run(number):  # without an operator, which Airflow 2 runs in the main thread only
        destination = parse_destination(str(tmp_path / f"{number}.png"))
        description = describe_image_job(
            "bria-erase-foreground", image, {"preserve_alpha": True}, destination=destination, poll_interval=0.1
        )
        checkpoints = open_ledger(folder).checkpoints(consumer=f"run-{number}", max_tries=0)
        with closing(SegmindHook()) as hook:
            together.wait()
            stored.append(JobRun(description, hook, checkpoints, lambda job: None).submit()["uri"])

    threads = [threading.Thread(target=run, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(segmind.jobs) == 1
    assert len(set(stored)) == 4


def test_a_task_that_looks_while_another_one_submits_gets_its_job_even_if_that_is_stored_meanwhile(
    task, segmind, monkeypatch, quick_looks
):
    first, second = task("run-1"), task("run-2")
    original, deferrals = LedgerCheckpoints.write, []

    def write(self, checkpoint):
        original(self, checkpoint)
        if checkpoint.request_id is None:
            deferrals.append(second.submit())

    monkeypatch.setattr(LedgerCheckpoints, "write", write)
    first.run()
    (deferral,) = deferrals
    while isinstance(deferral, TaskDeferred):
        deferral = second.resume(second.wait(deferral))

    assert len(segmind.jobs) == 1
    assert second.triggers[0][0].endswith("SegmindPauseTrigger")


def test_waiting_for_another_tasks_submit_takes_no_slot_of_the_rate_limit(task, segmind, monkeypatch):
    die(monkeypatch, "write", before=False)
    crash(task("run-1"))
    deferral = task("run-2", timeout=600).submit()

    assert deferral.trigger.segmind_conn_id is None
    assert 8 < deferral.trigger.moment - time.time() <= 10
    assert 500 < deferral.trigger.deadline - time.time() < 600


@both
def test_a_wait_for_another_tasks_submit_ends_at_the_deadline(task, segmind, monkeypatch, quick_looks, deferrable):
    die(monkeypatch, "write", before=False)
    crash(task("run-1"))
    with pytest.raises(SegmindSubmitPendingError, match="nothing was submitted"):
        task("run-2", timeout=1, deferrable=deferrable).run()

    assert len(segmind.jobs) == 0


def test_a_submit_of_a_dead_task_that_queued_nothing_is_repeated_by_another(task, segmind, monkeypatch, folder):
    die(monkeypatch, "write", before=False)
    crash(task("run-1"))
    change_entry(folder, submitted_at=time.time() - 1000)
    task("run-2").run()

    assert len(segmind.jobs) == 1


@both
def test_a_new_run_after_the_result_was_stored_is_a_new_image(task, segmind, deferrable):
    task("run-1", deferrable=deferrable).run()
    task("run-2", deferrable=deferrable).run()

    assert len(segmind.jobs) == 2


def test_a_clear_after_a_success_is_a_new_image(task, segmind):
    task(tries=3).run()
    task(tries=5).run()

    assert len(segmind.jobs) == 2


def test_a_success_of_more_than_a_day_ago_is_not_looked_up_by_a_retry(task, segmind, folder):
    task(tries=3).run()
    (entry,) = entries(folder)
    (consumer,) = entry["delivered_to"]
    change_entry(folder, delivered_to={consumer: {"tries": 3, "at": time.time() - 90_000}})
    task(tries=3).run()

    assert len(segmind.jobs) == 2


def test_a_failed_job_is_submitted_again(task, segmind):
    segmind.faults.add("job_fails")
    first = task("run-1")
    deferral = first.submit()
    first.wait(deferral)
    task("run-2").run()

    assert len(segmind.jobs) == 2


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
