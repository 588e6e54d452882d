"""What a task's store and a trigger's event carry, and how strictly it is read."""

from __future__ import annotations

import json

import pytest

from airflow_provider_segmind.api.models import JobOutcome, Metrics, OutcomeStatus
from airflow_provider_segmind.exceptions import SegmindCheckpointError, SegmindError
from airflow_provider_segmind.jobs.checkpoint import KEY, Checkpoint, ResumeEvent, TaskCheckpoints
from tests.operators.task import Store

CHECKPOINT = Checkpoint(
    "bria-erase-foreground",
    "d1",
    1_800_000_000.0,
    "api.segmind.com:0123",
    {"image": "url:https://a"},
    "id-1",
    "i1",
    4,
    3,
)

STORED = {
    "version": 1,
    "state": "submitted",
    "model": "bria-erase-foreground",
    "input_digest": "d1",
    "submitted_at": 1_800_000_000.0,
    "account": "api.segmind.com:0123",
    "payload_fingerprint": {"image": "url:https://a"},
    "request_id": "id-1",
    "image_identity": "i1",
    "image_width": 4,
    "image_height": 3,
}
"""A frozen copy of a stored checkpoint: later versions must go on reading it."""

EVENT = {
    "version": 1,
    "status": "COMPLETED",
    "request_id": "id-1",
    "error": None,
    "metrics": {"inference_time": 9.0, "queue_time": None, "total_time": 12.0, "cost": 0.04, "remaining_credits": None},
    "output_urls": ["https://images.segmind.com/a.png", "https://images.segmind.com/b.png"],
    "model": "bria-erase-foreground",
    "submitted_at": 1_800_000_000.0,
    "deadline": None,
    "checkpoint": STORED,
    "submit_waits": 0,
    "store_attempts": 0,
    "uploaded_url": None,
    "output_url": "https://images.segmind.com/a.png",
}
"""A frozen copy of an event, as Airflow keeps it between the triggerer and the worker."""


def test_a_stored_checkpoint_of_version_1_is_read():
    assert Checkpoint.parse(json.loads(json.dumps(STORED))) == CHECKPOINT


def test_a_checkpoint_is_stored_as_version_1():
    assert CHECKPOINT.as_json() == STORED


@pytest.mark.parametrize(
    "damage",
    [
        {"version": 2},
        {"version": None},
        {"model": None},
        {"input_digest": 7},
        {"account": None},
        {"payload_fingerprint": "x"},
        {"request_id": "../x"},
        {"request_id": None},
        {"state": "submitting"},
        *({"submitted_at": value} for value in ("x", None, 0, -1, 1e300, float("nan"))),
    ],
    ids=str,
)
def test_a_damaged_checkpoint_is_an_error(damage):
    with pytest.raises(SegmindCheckpointError, match="nothing was submitted"):
        Checkpoint.parse({**STORED, **damage})


@pytest.mark.parametrize("value", ["text", 7, [], True, {}])
def test_a_value_that_is_not_a_checkpoint_is_an_error(value):
    store = Store()
    store.set(KEY, value)
    with pytest.raises(SegmindCheckpointError):
        TaskCheckpoints(store).read()


def test_a_store_that_fails_is_an_error_and_not_an_absent_checkpoint():
    class Failing:
        def get(self, key):
            raise ConnectionError("the API server is away")

    with pytest.raises(SegmindCheckpointError, match="the API server is away"):
        TaskCheckpoints(Failing()).read()


def test_a_delivered_checkpoint_counts_for_a_retry_and_not_for_a_clear():
    store = Store()
    TaskCheckpoints(store, max_tries=3).mark_delivered(CHECKPOINT)

    assert store.get(KEY)["state"] == "delivered"
    assert TaskCheckpoints(store, max_tries=3).read() == CHECKPOINT
    assert TaskCheckpoints(store, max_tries=5).read() is None


def test_without_a_store_a_checkpoint_lives_as_long_as_the_process():
    checkpoints = TaskCheckpoints(None)
    checkpoints.remember(CHECKPOINT)

    assert (checkpoints.durable, checkpoints.read()) == (False, CHECKPOINT)
    checkpoints.forget()
    assert checkpoints.read() is None


def test_an_event_of_version_1_is_read():
    event = ResumeEvent.parse(json.loads(json.dumps(EVENT)))

    assert event.checkpoint == CHECKPOINT
    assert event.outcome() == JobOutcome(
        "id-1",
        OutcomeStatus.COMPLETED,
        metrics=Metrics(inference_time=9.0, total_time=12.0, cost=0.04),
        output_urls=("https://images.segmind.com/a.png", "https://images.segmind.com/b.png"),
    )


def test_an_event_is_written_as_version_1():
    assert ResumeEvent.parse(EVENT).as_json() == EVENT


def test_an_event_with_the_documented_keys_alone_is_read():
    documented = {name: EVENT[name] for name in ("request_id", "status", "error", "metrics", "output_url")}
    event = ResumeEvent.parse(documented)

    assert (event.output_urls, event.submitted_at) == (("https://images.segmind.com/a.png",), None)


@pytest.mark.parametrize(
    "event",
    [None, "x", {}, {**EVENT, "status": "DONE"}, {**EVENT, "request_id": "../x"}, {**EVENT, "version": 2}],
    ids=["none", "text", "empty", "status", "request id", "newer version"],
)
def test_an_event_that_is_not_known_is_an_error(event):
    with pytest.raises(SegmindError, match="does not know"):
        ResumeEvent.parse(event)
