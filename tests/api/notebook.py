"""A task's note as the flows see it, and a submit by it."""

from __future__ import annotations

from airflow_provider_segmind.api.history import fingerprint
from airflow_provider_segmind.api.note import Entry, digest_of
from airflow_provider_segmind.api.submission import acquire_job

from .world import ID, MODEL, NOON, queued

BODY = {"image": "https://photos.example/a.jpg", "preserve_alpha": True}
DIGEST = digest_of(MODEL, BODY)
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
        self.entry = Entry.read(entry.as_json())

    def forget(self):
        self.events.append("forgotten")
        self.entry = None


def noted(request_id=ID, age=100.0, digest=DIGEST):
    return Notebook(Entry(MODEL, digest, NOON - age, request_id, WANTED))


def acquire(world, note, script, choice="reconcile", payload=lambda: BODY, model=MODEL):
    flow = acquire_job(world.service, note, model, DIGEST, payload, on_unknown_submit=choice)
    return world.run(flow, script)


def never():
    raise AssertionError("the payload is not needed")
