"""What can go wrong with a request, by its kind. A fault gets the model and what lets the request through."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from airflow_provider_segmind.api.operation import Response, TransportFailure
from tests.model.service_model import Fault, ServiceModel, as_json

HTML = Response(200, {"content-type": "text/html"}, b"<html>one moment please</html>")
OWN = as_json({"error": "busy"}, 503)


def cut(*, after: bool = False, sent: bool = True, seconds: float = 0.0) -> Fault:
    """No answer: before or after the request was carried out, at once or when the client's patience ends."""

    def fault(model: ServiceModel, go: Callable[[], Response]) -> Response:
        if after:
            go()
        model.clock.advance(seconds)
        raise TransportFailure("cut", sent=sent)

    return fault


def instead(answer: Response, *, after: bool = False, seconds: float = 0.0) -> Fault:
    """Another answer: before or after the request was carried out."""

    def fault(model: ServiceModel, go: Callable[[], Response]) -> Response:
        if after and not go().ok:
            return OWN  # it was limited: nothing was carried out
        model.clock.advance(seconds)
        return answer

    return fault


def changed(change: Callable[[Response], Response]) -> Fault:
    """The true answer, changed on its way."""
    return lambda model, go: change(go())


def limited(header: Callable[[float], dict[str, str]]) -> Fault:
    """A 429 with one of the headers that may say until when."""

    def fault(model: ServiceModel, go: Callable[[], Response]) -> Response:
        return as_json({"error": "slow down"}, 429, header(model.clock()))

    return fault


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


RESET = "x-rate-limit-reset-at-utc"
LIMITS: dict[str, Fault] = {
    "429 without a header": limited(lambda now: {}),
    "429 ISO": limited(lambda now: {RESET: _moment(now + 20).isoformat()}),
    "429 ISO without a zone": limited(lambda now: {RESET: _moment(now + 20).replace(tzinfo=None).isoformat()}),
    "429 HTTP date": limited(lambda now: {RESET: format_datetime(_moment(now + 20), usegmt=True)}),
    "429 epoch": limited(lambda now: {RESET: str(now + 20)}),
    "429 milliseconds": limited(lambda now: {RESET: str(int(now + 4) * 1000)}),
    "429 past": limited(lambda now: {RESET: str(now - 500)}),
    "429 far": limited(lambda now: {RESET: "9999-12-31T00:00:00"}),
    "429 garbage": limited(lambda now: {RESET: "soon"}),
    "429 Retry-After": limited(lambda now: {"retry-after": "3"}),
}

REFUSALS: dict[str, Fault] = {
    "401": instead(as_json({"error": "invalid_key", "error_description": "no", "status_code": 401}, 401)),
    "400": instead(as_json({"error": "bad parameter"}, 400)),
    "406": instead(as_json({"error": "insufficient credits"}, 406)),
    "405 HTML": instead(replace(HTML, status=405)),
}

_UNKNOWN: dict[str, Response] = {
    "200 without id": as_json({"status": "QUEUED"}),
    "200 with a bad id": as_json({"request_id": "../../v1/get-user-credits"}),
    "200 HTML": HTML,
    "200 empty": Response(200),
    "502 HTML": replace(HTML, status=502),
    "503 empty": Response(503),
    "504 in the envelope": as_json({"error": "timeout"}, 504),
    "302": Response(302, {"location": "https://api.segmind.com/elsewhere"}),
}

SUBMIT: dict[str, Fault] = {
    "not sent": cut(sent=False),
    "cut before": cut(),
    "cut after": cut(after=True),
    "silent before": cut(seconds=30.0),
    "silent after": cut(after=True, seconds=30.0),
    "503 in the envelope": instead(OWN),
    "503 in the envelope, slowly": instead(OWN, seconds=25.0),
    "500 in the envelope": instead(as_json({"error": "inference failed"}, 500)),
    **{f"{name}, before": instead(answer) for name, answer in _UNKNOWN.items()},
    **{f"{name}, after": instead(answer, after=True) for name, answer in _UNKNOWN.items()},
    **LIMITS,
    **REFUSALS,
}

TROUBLE: dict[str, Fault] = {
    "a stranger's 403": instead(replace(HTML, status=403)),
    "a stranger's 404": instead(replace(HTML, status=404)),
    "not sent": cut(sent=False),
    "cut": cut(),
    "silent": cut(seconds=30.0),
    "503": instead(OWN),
    "502 HTML": instead(replace(HTML, status=502)),
    "302": instead(Response(302, {"location": "https://elsewhere.example/"})),
}

SENSELESS: dict[str, Fault] = {
    "HTML": instead(HTML),
    "empty": instead(Response(200)),
    "a number": instead(as_json(7)),
    "too long": instead(Response(200, {}, b"[[[", "larger than 10 bytes")),
    "deep": instead(Response(200, {}, b"[" * 20_000)),
    "wrong types": instead(as_json({"status": 3, "data": {"results": 5}, "request_id": [], "output": {"url": {}}})),
}

STATUS = (
    TROUBLE
    | SENSELESS
    | LIMITS
    | REFUSALS
    | {
        "unknown word": instead(as_json({"status": "DREAMING", "metrics": "none"})),
        "404 for a moment": instead(as_json({"error": "unknown request"}, 404)),
        "behind": instead(as_json({"status": "PROCESSING"})),
    }
)


def _rows(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Fault:
    def changes(answer: Response) -> Response:
        body = json.loads(answer.body)
        return as_json([change(row) for row in body["data"]]) if answer.ok else answer

    return changed(changes)


def _without(*keys: str) -> Fault:
    return _rows(lambda row: {key: value for key, value in row.items() if key not in keys})


def _arranged(arrange: Callable[[list[Any]], Any]) -> Fault:
    def changes(answer: Response) -> Response:
        return as_json(arrange(json.loads(answer.body)["data"])) if answer.ok else answer

    return changed(changes)


HISTORY = (
    TROUBLE
    | SENSELESS
    | REFUSALS
    | {
        "429": LIMITS["429 ISO"],
        "rows without inputs": _without("request_body"),
        "rows without time": _without("model_created"),
        "rows with inputs shortened": _rows(
            lambda row: {**row, "request_body": {k: str(v)[:300] + "..." for k, v in row["request_body"].items()}}
        ),
        "inputs as text": _rows(lambda row: {**row, "request_body": json.dumps(row["request_body"])}),
        "oldest first": _arranged(lambda rows: {"items": rows[::-1]}),
        "each row twice": _arranged(lambda rows: {"data": {"results": [row for row in rows for _ in "ab"]}}),
    }
)

RECORD = (
    TROUBLE
    | SENSELESS
    | {
        "429": LIMITS["429 ISO"],
        "401": REFUSALS["401"],
    }
)

FILE = TROUBLE | {
    "HTML": instead(HTML),
    "empty": instead(Response(200, {"content-type": "image/png"})),
    "truncated": changed(lambda answer: replace(answer, body=answer.body[:-20])),
    "truncated, no length": changed(
        lambda answer: replace(answer, body=answer.body[:-20], headers={"content-type": "image/png"})
    ),
    "moved": instead(Response(302, {"location": "https://images.segmind.com/generations/none.png"})),
    "moved to a stranger": instead(Response(302, {"location": "https://elsewhere.example/"})),
}

FAULTS: dict[str, dict[str, Fault]] = {
    "submit": SUBMIT,
    "status": STATUS,
    "result": STATUS,
    "history": HISTORY,
    "record": RECORD,
    "file": FILE,
}
