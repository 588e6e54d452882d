"""What the tests of the ledger do as a task does it."""

from __future__ import annotations

import json

from airflow_provider_segmind.jobs.checkpoint import Checkpoint
from tests.api.world import MODEL
from tests.jobs.checkpoints import DIGEST, FINGERPRINT

ACCOUNT = "api.segmind.com:0123456789ab"
PHOTO = "the photo's identity"


def job(clock, request_id=None, identity=PHOTO, inputs=DIGEST):
    return Checkpoint(MODEL, inputs, clock(), ACCOUNT, FINGERPRINT, request_id, identity)


def submit(checkpoints, clock, request_id="r1", **fields):
    """Write what a submit writes, and return the job's checkpoint."""
    checkpoints.read()
    checkpoints.write(job(clock, **fields))
    checkpoints.write(job(clock, request_id, **fields))
    return job(clock, request_id, **fields)


def deliver(checkpoints, clock, request_id="r1"):
    checkpoints.mark_delivered(submit(checkpoints, clock, request_id))


def entries(ledger):
    return [json.loads(ledger.documents.read(name).data) for name in ledger.documents.names()]
