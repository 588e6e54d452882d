"""The fault rate_limited: a 429 with the reset in each format."""

from __future__ import annotations

import email.utils
import time
from datetime import UTC, datetime

import pytest

RESET_FORMATS = {
    "iso": lambda text: datetime.fromisoformat(text).timestamp(),
    "iso_offset": lambda text: datetime.fromisoformat(text).timestamp(),
    "iso_naive": lambda text: datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp(),
    "http_date": lambda text: email.utils.parsedate_to_datetime(text).timestamp(),
    "epoch": float,
    "epoch_ms": lambda text: float(text) / 1000,
}


@pytest.mark.parametrize("reset", RESET_FORMATS)
def test_rate_limited_announces_the_reset_in_each_format(client, emulator, reset):
    emulator.faults.add("rate_limited", reset=reset, seconds=3600)
    earliest = time.time() + 3600
    response = client.submit()
    latest = time.time() + 3601  # most formats have whole seconds
    assert response.status_code == 429
    assert earliest <= RESET_FORMATS[reset](response.headers["x-rate-limit-reset-at-utc"]) <= latest
    assert len(emulator.jobs) == 0


@pytest.mark.parametrize(
    ("reset", "headers"),
    [
        ("garbage", {"x-rate-limit-reset-at-utc": "soon"}),
        ("far", {"x-rate-limit-reset-at-utc": "9999-12-31T23:59:59Z"}),
        ("past", {"x-rate-limit-reset-at-utc": "2001-01-01T00:00:00Z"}),
        ("none", {}),
    ],
)
def test_rate_limited_can_announce_an_unusable_reset_or_none(client, emulator, reset, headers):
    emulator.faults.add("rate_limited", on="status", reset=reset)
    response = client.status("x")
    assert response.status_code == 429
    assert {name: value for name, value in response.headers.items() if "r-a" in name or "rate" in name} == headers


def test_rate_limited_can_send_retry_after(client, emulator):
    emulator.faults.add("rate_limited", reset="retry_after", seconds=3600)
    emulator.faults.add("rate_limited", nth=2, reset="retry_after_date", seconds=3600)
    assert int(client.submit().headers["retry-after"]) in (3600, 3601)  # whole seconds, rounded up
    earliest = time.time() + 3600
    at = email.utils.parsedate_to_datetime(client.submit().headers["retry-after"]).timestamp()
    assert earliest <= at <= time.time() + 3601
