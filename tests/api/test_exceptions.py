"""The exceptions and their tree."""

from __future__ import annotations

import copy
import pickle
import re

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_segmind import exceptions
from airflow_provider_segmind.exceptions import SegmindError

TREE = re.compile(r"^( *(?:\| +)?)\+ (Segmind\w+)|^(SegmindError)", re.MULTILINE)
CLASSES = [getattr(exceptions, name) for name in exceptions.__all__]
NEEDS = {"SegmindRateLimitError": {"reset_at": 5.0}, "SegmindSubmitPendingError": {"until": 5.0}}
NEEDS |= {name: {"detail": "no subject"} for name in ("SegmindJobFailedError", "SegmindModerationError")}


def make(kind):
    return kind("what happened", request_id="r1", **NEEDS.get(kind.__name__, {}))


def test_exactly_the_errors_are_exported():
    defined = [value for value in vars(exceptions).values() if isinstance(value, type)]
    assert sorted(exceptions.__all__) == exceptions.__all__
    assert {kind.__name__ for kind in defined if issubclass(kind, SegmindError)} == set(exceptions.__all__)


def test_the_tree_drawn_in_the_docstring_is_the_tree():
    parents, drawn = [], {}
    for match in TREE.finditer(exceptions.__doc__):
        depth = {0: 0, 2: 1}.get(len(match[1] or ""), 2)
        name = match[2] or match[3]
        parents = [*parents[:depth], name]
        drawn[name] = parents[-2] if len(parents) > 1 else "AirflowException"
    assert drawn == {kind.__name__: kind.__bases__[0].__name__ for kind in CLASSES}


@pytest.mark.parametrize("kind", CLASSES)
def test_each_error_is_an_airflow_exception_with_a_message_and_a_request_id(kind):
    error = make(kind)
    assert isinstance(error, AirflowException)
    assert (str(error), error.request_id) == ("what happened", "r1")
    assert kind.__doc__


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("through", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_each_error_keeps_its_attributes_when_copied_or_pickled(kind, through):
    again = through(make(kind))
    assert (type(again), str(again), vars(again)) == (kind, "what happened", vars(make(kind)))
