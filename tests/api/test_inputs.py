"""The checks of what a caller gives."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_provider_segmind.api.models import (
    OnUnknownSubmit,
    check_choice,
    check_model,
    check_moment,
    check_payload,
    check_request_id,
    check_timeout,
    is_request_id,
)
from airflow_provider_segmind.api.operation import account_fingerprint
from airflow_provider_segmind.exceptions import SegmindInputError


@pytest.mark.parametrize("model", ["bria-erase-foreground", "sd1.5-img2img", "A_b", "7"])
def test_a_model_slug_is_accepted(model):
    assert check_model(model) == model


@pytest.mark.parametrize(
    "model", ["", " ", ".", "..", "../x", "a/b", "a?b", "a#b", "a\n", "-a", "é", "a" * 200, None, 1, []]
)
def test_an_invalid_model_is_an_error_with_its_value_and_the_fix(model):
    with pytest.raises(SegmindInputError, match=r"Invalid model .*Use the slug"):
        check_model(model)


@pytest.mark.parametrize("value", ["abc", "a-b_c", "0" * 128, "550e8400-e29b-41d4-a716-446655440000"])
def test_a_request_id_is_accepted(value):
    assert is_request_id(value)
    assert check_request_id(value) == value


@pytest.mark.parametrize("value", ["", "../x", "a/b", "a b", "a\n", "a.b", "0" * 129, None, 5, b"a"])
def test_an_invalid_request_id_is_an_error(value):
    assert not is_request_id(value)
    with pytest.raises(SegmindInputError, match="Invalid request_id"):
        check_request_id(value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(1, 1), (0.5, 0.5), (604_800, 604_800), (timedelta(minutes=2), 120), (timedelta(days=7), 604_800)],
)
def test_a_timeout_is_returned_in_seconds(value, seconds):
    assert check_timeout(value) == seconds


@pytest.mark.parametrize(
    "value", [0, -1, 604_801, float("nan"), float("inf"), True, "60", None, timedelta(0), timedelta(days=8)]
)
def test_an_invalid_timeout_is_an_error(value):
    with pytest.raises(SegmindInputError, match="Invalid poll "):
        check_timeout(value, "poll")


def test_a_value_that_is_not_a_choice_is_an_error_that_lists_the_choices():
    check_choice("on_unknown_submit", "fail", OnUnknownSubmit)
    with pytest.raises(SegmindInputError, match=r"Invalid on_unknown_submit 'retry'.*'reconcile'"):
        check_choice("on_unknown_submit", "retry", OnUnknownSubmit)


def test_an_input_error_is_a_value_error():
    assert issubclass(SegmindInputError, ValueError)


def test_a_moment_is_returned_in_epoch_seconds():
    assert check_moment(1_700_000_000, "since") == 1_700_000_000.0


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), True, "0", None, 1_700_000_000_000])
def test_an_invalid_moment_is_an_error(value):
    with pytest.raises(SegmindInputError, match=r"Invalid since .*Use epoch seconds"):
        check_moment(value, "since")


@pytest.mark.parametrize("value", [None, [], "x", {1: 2}, {"a": object()}, {"a": float("nan")}, {"a": "\ud800"}])
def test_a_payload_that_is_not_a_json_object_is_an_error(value):
    with pytest.raises(SegmindInputError, match=r"Invalid payload .*Use the model's parameters"):
        check_payload(value)


def test_an_error_about_a_payload_shows_no_signature():
    with pytest.raises(SegmindInputError) as caught:
        check_payload({"image": "https://a.b/c?X-Amz-Signature=dead", "x": object()})
    assert "dead" not in str(caught.value)


def test_an_account_is_told_from_others_by_its_host_and_key_without_showing_the_key():
    one = account_fingerprint("https://api.segmind.com", "SG_0123456789abcdef")
    assert one.startswith("api.segmind.com:")
    assert len(one.rpartition(":")[2]) == 12
    assert "0123456789abcdef" not in one
    assert one == account_fingerprint("https://api.segmind.com", "SG_0123456789abcdef")
    assert one != account_fingerprint("https://api.segmind.com", "SG_fedcba9876543210")
    assert one != account_fingerprint("http://127.0.0.1:8765", "SG_0123456789abcdef")
