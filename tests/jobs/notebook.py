"""A task's note as the flows see it, and a submit by it."""

from __future__ import annotations

from airflow_provider_segmind.api.history import fingerprint
from airflow_provider_segmind.jobs.acquire import acquire_job
from airflow_provider_segmind.jobs.checkpoint import Checkpoint, input_digest
from tests.api.world import ID, MODEL, NOON, queued

BODY = {"image": "https://photos.example/a.jpg", "preserve_alpha": True}
DIGEST = input_digest(MODEL, BODY)
WANTED = fingerprint(BODY)
FILE = "https://images.segmind.com/generations/a.png"
NEW = queued("new")
DAY = 86_400.0


class Notebook:
    """A note that remembers what was done to it."""

    def __init__(self, entry=None, fail_on=None):
        self.entry, self.events, self.fail_on = entry, [], fail_on

    def read(self):
        return self.entry

    def write(self, entry):
        self.events.append(entry.as_json()["state"])
        if self.events[-1] == self.fail_on:
            raise OSError("the database is away")
        self.entry = Checkpoint.read(entry.as_json())

    def forget(self):
        self.events.append("forgotten")
        self.entry = None


def noted(request_id=ID, age=100.0, digest=DIGEST):
    return Notebook(Checkpoint(MODEL, digest, NOON - age, request_id, WANTED))


def acquire(world, note, script, choice="reconcile", payload=lambda: BODY, model=MODEL):
    operation = acquire_job(world.api, note, model, DIGEST, payload, on_unknown_submit=choice)
    return world.run(operation, script)


def never():
    raise AssertionError("the payload is not needed")
