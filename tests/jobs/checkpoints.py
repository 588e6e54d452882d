"""A checkpoint store in memory, and a job that is acquired with it."""

from __future__ import annotations

from airflow_provider_segmind.api.history import payload_fingerprint
from airflow_provider_segmind.jobs.acquire import Submission, acquire_job
from airflow_provider_segmind.jobs.checkpoint import Checkpoint, input_digest
from tests.api.world import ID, MODEL, NOON, queued

BODY = {"image": "https://photos.example/a.jpg", "preserve_alpha": True}
DIGEST = input_digest(MODEL, BODY)
FINGERPRINT = payload_fingerprint(BODY)
FILE = "https://images.segmind.com/generations/a.png"
NEW = queued("new")
DAY = 86_400.0


class MemoryCheckpoints:
    """A checkpoint store that records what was done to it."""

    durable = True
    how_to_forget = "delete it"

    def __init__(self, checkpoint=None, fail_on=None):
        self.checkpoint, self.events, self.fail_on = checkpoint, [], fail_on

    def read(self):
        return self.checkpoint

    def submit_ended_by(self, checkpoint):
        return None

    def write(self, checkpoint):
        self.events.append(checkpoint.as_json()["state"])
        if self.events[-1] == self.fail_on:
            raise OSError("the database is away")
        self.checkpoint = Checkpoint.parse(checkpoint.as_json())

    def forget(self):
        self.events.append("forgotten")
        self.checkpoint = None


def checkpointed(request_id=ID, age=100.0, **fields):
    """Return a store that holds the checkpoint of a job submitted ``age`` seconds ago."""
    known = {"input_digest": DIGEST, "payload_fingerprint": FINGERPRINT, **fields}
    return MemoryCheckpoints(Checkpoint(model=MODEL, submitted_at=NOON - age, request_id=request_id, **known))


def acquire(world, checkpoints, script, choice="reconcile", payload=lambda: BODY, deadline=float("inf"), **fields):
    submission = Submission(MODEL, DIGEST, payload, on_unknown_submit=choice, deadline=deadline, **fields)
    checkpoint = submission.match(checkpoints.read())
    return world.run(acquire_job(world.api, checkpoints, submission, checkpoint), script)


def never():
    raise AssertionError("the payload is not needed")
