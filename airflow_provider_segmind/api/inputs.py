"""What a caller may give, checked before anything is sent; light enough for the parsing of DAG files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal, get_args

from airflow_provider_segmind.api.redaction import clean
from airflow_provider_segmind.exceptions import SegmindInputError

OnUnknownSubmit = Literal["reconcile", "fail", "resubmit"]

DEFAULT_TIMEOUT = 600.0
"""Seconds that a wait takes at most by default: what the official client waits."""

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


def check_model(model: object) -> str:
    """Return the model's name; raise :class:`SegmindInputError` where it could not stand in a path."""
    if not isinstance(model, str) or not _MODEL.fullmatch(model) or ".." in model:
        raise SegmindInputError(
            f"model={clean(repr(model), limit=80)} is no model's name: give the slug from the model's page, "
            "such as 'bria-erase-foreground' (letters, digits, '.', '_', '-')."
        )
    return model


def valid_request_id(value: object) -> bool:
    """Whether a value from outside may stand in a path."""
    return isinstance(value, str) and _REQUEST_ID.fullmatch(value) is not None


def check_request_id(request_id: object) -> str:
    """Return the id; raise :class:`SegmindInputError` where it could not stand in a path."""
    if not valid_request_id(request_id):
        raise SegmindInputError(
            f"request_id={clean(repr(request_id), limit=80)} is no request id of Segmind's: "
            "give the id that a submit returned."
        )
    return str(request_id)


def check_timeout(timeout: object, name: str = "timeout") -> float:
    """Return a number of seconds above 0, at most a week; raise :class:`SegmindInputError` for anything else."""
    if isinstance(timeout, int | float) and not isinstance(timeout, bool) and 0 < timeout <= 7 * 86_400:
        return float(timeout)
    raise SegmindInputError(f"{name}={timeout!r}: give a number of seconds above 0, at most a week (604800).")


def check_payload(payload: object) -> dict[str, Any]:
    """Return a job's parameters as they are sent; raise :class:`SegmindInputError` where they are no JSON object."""
    try:
        if isinstance(payload, Mapping) and all(isinstance(key, str) for key in payload):
            sent = dict(payload)
            json.dumps(sent, allow_nan=False, ensure_ascii=False).encode()
            return sent
        why = "no dict of the model's parameters"
    except (TypeError, ValueError, RecursionError) as error:
        why = f"no JSON ({error})"
    raise SegmindInputError(
        f"payload={clean(repr(payload), limit=80)} is {clean(why, limit=120)}: give one such as {{'prompt': '...'}}."
    )


def check_choice(name: str, value: object, choices: Any) -> None:
    """Raise :class:`SegmindInputError` for a value that is none of a ``Literal``'s choices."""
    allowed = get_args(choices)
    if value not in allowed:
        raise SegmindInputError(f"{name}={value!r}: choose one of {', '.join(map(repr, allowed))}.")
