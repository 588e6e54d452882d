from __future__ import annotations

import pytest

from airflow_provider_segmind.files.documents import open_documents, parse_prefix
from airflow_provider_segmind.jobs.ledger import Ledger
from tests.api.world import FakeClock, World
from tests.jobs.checkpoints import DIGEST
from tests.jobs.ledgers import ACCOUNT, PHOTO


@pytest.fixture
def world():
    return World()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def ledger(tmp_path, clock):
    return Ledger(open_documents(parse_prefix("ledger", f"{tmp_path}/")), clock)


@pytest.fixture
def view(ledger):
    """Return a function that opens the ledger as a task does in a new process."""

    def open_as(task="a", tries=0, *, inputs=DIGEST, identity=PHOTO, account=ACCOUNT):
        checkpoints = ledger.checkpoints(consumer=task, max_tries=tries)
        checkpoints.about(inputs, identity, account)
        return checkpoints

    return open_as
