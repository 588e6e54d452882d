"""What a caller may give."""

from __future__ import annotations

import pytest

from airflow_provider_segmind.api.models import (
    OnUnknownSubmit,
    check_choice,
    check_model,
    check_request_id,
    check_timeout,
    is_request_id,
)
from airflow_provider_segmind.exceptions import SegmindInputError


@pytest.mark.parametrize("model", ["bria-erase-foreground", "sd1.5-img2img", "A_b", "7"])
def test_models_are_taken(model):
    assert check_model(model) == model


@pytest.mark.parametrize(
    "model", ["", " ", ".", "..", "../x", "a/b", "a?b", "a#b", "a\n", "-a", "é", "a" * 200, None, 1, []]
)
def test_what_is_no_model_is_told_by_name_value_and_remedy(model):
    with pytest.raises(SegmindInputError, match=r"model=.*give the slug"):
        check_model(model)


@pytest.mark.parametrize("value", ["abc", "a-b_c", "0" * 128, "550e8400-e29b-41d4-a716-446655440000"])
def test_request_ids_are_taken(value):
    assert is_request_id(value)
    assert check_request_id(value) == value


@pytest.mark.parametrize("value", ["", "../x", "a/b", "a b", "a\n", "a.b", "0" * 129, None, 5, b"a"])
def test_what_is_no_request_id_is_told(value):
    assert not is_request_id(value)
    with pytest.raises(SegmindInputError, match="request_id="):
        check_request_id(value)


@pytest.mark.parametrize("value", [1, 0.5, 604_800])
def test_timeouts_are_taken(value):
    assert check_timeout(value) == value


@pytest.mark.parametrize("value", [0, -1, 604_801, float("nan"), float("inf"), True, "60", None])
def test_what_is_no_timeout_is_told(value):
    with pytest.raises(SegmindInputError, match="poll="):
        check_timeout(value, "poll")


def test_a_choice_is_one_of_the_choices():
    check_choice("on_unknown_submit", "fail", OnUnknownSubmit)
    with pytest.raises(SegmindInputError, match=r"on_unknown_submit='retry'.*'reconcile'"):
        check_choice("on_unknown_submit", "retry", OnUnknownSubmit)


def test_an_input_error_is_a_value_error():
    assert issubclass(SegmindInputError, ValueError)
