"""Checkpoints that cannot be read, are another account's, or were carried by an event: nothing is paid again."""

from __future__ import annotations

import json

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_segmind.exceptions import SegmindCheckpointError, SegmindInputError
from airflow_provider_segmind.jobs.checkpoint import KEY


@pytest.mark.parametrize("damage", [{"version": 99}, {"model": None}, {"submitted_at": "yesterday"}])
def test_a_checkpoint_that_cannot_be_read_fails_the_try_and_posts_nothing(erase, segmind, damage):
    task = erase()
    task.submit()
    task.store.set(KEY, {**task.store.get(KEY), **damage})
    with pytest.raises(SegmindCheckpointError, match="cannot be read"):
        task.run()

    assert len(segmind.jobs) == 1


def test_a_store_that_fails_fails_the_try_and_posts_nothing(erase, segmind):
    task = erase()
    task.store.get = lambda key: 1 / 0
    with pytest.raises(SegmindCheckpointError, match="could not be read"):
        task.run()

    assert "submit" not in segmind.requests.counts


def test_a_job_of_another_account_is_not_bought_again(erase, segmind):
    task = erase()
    task.submit()
    segmind.faults.add("expire_record", times=None)
    segmind.faults.add("error", on="record", status=404, times=None)
    checkpoint = task.store.get(KEY)
    task.store.set(
        KEY, {**checkpoint, "account": "of the key before", "submitted_at": checkpoint["submitted_at"] - 4000}
    )
    with pytest.raises((SegmindInputError, AirflowFailException), match="another API key or base URL"):
        task.run()

    assert len(segmind.jobs) == 1
    assert task.store.get(KEY)["request_id"] == segmind.jobs[0].request_id


def test_a_job_goes_on_after_its_accounts_key_was_rotated(erase, segmind):
    task = erase()
    task.submit()
    task.store.set(KEY, {**task.store.get(KEY), "account": "of the key before"})
    task.run()

    assert len(segmind.jobs) == 1


def test_the_checkpoint_names_the_account_without_its_key(erase, segmind):
    task = erase()
    task.submit()
    account = task.store.get(KEY)["account"]

    assert account
    assert segmind.key not in json.dumps(task.store.written)


@pytest.mark.parametrize("deferrable", [True, False])
def test_before_airflow_3_3_an_expired_job_whose_row_is_late_is_not_bought_again(
    erase, segmind, monkeypatch, deferrable, quick_retries
):
    monkeypatch.setattr("airflow_provider_segmind.api.polling.NOT_FOUND_GRACE", 0.0)
    monkeypatch.setattr("airflow_provider_segmind.jobs.run.STORE_RETRY_SECONDS", 0.5)
    segmind.faults.add("expire_record", times=None)
    segmind.faults.add("history_late", seconds=2.0)
    erase(durable=False, deferrable=deferrable).run()

    assert len(segmind.jobs) == 1


def test_before_airflow_3_3_a_recovered_file_behind_a_403_is_not_bought_again(
    erase, segmind, monkeypatch, quick_retries
):
    monkeypatch.setattr("airflow_provider_segmind.api.polling.NOT_FOUND_GRACE", 0.0)
    monkeypatch.setattr("airflow_provider_segmind.jobs.run.STORE_RETRY_SECONDS", 0.01)
    segmind.faults.add("expire_record", times=None)
    segmind.faults.add("history_without_time", times=None)
    segmind.faults.add("error", on="file", status=403, times=6)
    erase(durable=False).run()

    assert len(segmind.jobs) == 1


def test_before_airflow_3_3_the_event_carries_the_checkpoint(erase, segmind):
    task = erase(durable=False)
    task.run()

    (event,) = task.events
    assert event["checkpoint"]["request_id"] == segmind.jobs[0].request_id
    assert event["submitted_at"] == event["checkpoint"]["submitted_at"] > 0
