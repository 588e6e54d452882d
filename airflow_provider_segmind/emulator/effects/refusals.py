"""Answers that are not the service's own."""

# ruff: noqa: ARG001 - every fault is called alike

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from airflow_provider_segmind.emulator.calls import Answer, Call, Proceed
from airflow_provider_segmind.emulator.effects.registry import fault

Style = Literal["gateway", "html", "empty"]
Reset = Literal[
    "iso", "iso_offset", "iso_naive", "http_date", "epoch", "epoch_ms", "retry_after", "retry_after_date",
    "garbage", "far", "past", "none",
]  # fmt: skip

ERROR_TEXTS = {
    400: "Bad request",
    403: "Your account does not have access to this model",
    404: "Not found",
    406: "Insufficient credits. Your balance is $0.0012",
    410: "This model has been retired",
    429: "Rate limit exceeded",
    500: "Inference failed",
    502: "Bad gateway",
    503: "Service unavailable",
    504: "Gateway timeout",
}


def _error(status: int, style: Style, text: str | None) -> Answer:
    text = ERROR_TEXTS.get(status, "Error") if text is None else text
    if style == "html":
        page = f"<html><head><title>{status}</title></head><body><h1>{status} {text}</h1></body></html>"
        return Answer(status, {"content-type": "text/html"}, page.encode())
    if style == "empty":
        return Answer(status)
    if status == 401:
        return Answer.of_json(status, {"error": "invalid_api_key", "error_description": text, "status_code": status})
    return Answer.of_json(status, {"error": text})


@fault("submit")
async def error(
    call: Call, proceed: Proceed, *, status: int = 500, style: Style = "gateway", text: str | None = None
) -> Answer:
    """Answer with an error; nothing was accepted."""
    return _error(status, style, text)


@fault("submit")
async def error_after_accept(
    call: Call, proceed: Proceed, *, status: int = 504, style: Style = "html", text: str | None = None
) -> Answer:
    """Handle the request, then answer with an error all the same."""
    await proceed()
    return _error(status, style, text)


@fault("submit", "status", "result", "credits")
async def rate_limited(call: Call, proceed: Proceed, *, reset: Reset = "iso", seconds: float = 1.0) -> Answer:
    """Answer 429, the reset that many seconds away in one of the formats."""
    return Answer.of_json(429, {"error": ERROR_TEXTS[429]}, _reset_header(reset, time.time() + seconds))


RESET_HEADER = "x-rate-limit-reset-at-utc"
RESETS: dict[Reset, Callable[[datetime], dict[str, str]]] = {
    "iso": lambda at: {RESET_HEADER: at.strftime("%Y-%m-%dT%H:%M:%SZ")},
    "iso_offset": lambda at: {RESET_HEADER: at.isoformat()},
    "iso_naive": lambda at: {RESET_HEADER: at.replace(tzinfo=None).isoformat()},
    "http_date": lambda at: {RESET_HEADER: email.utils.format_datetime(at, usegmt=True)},
    "epoch": lambda at: {RESET_HEADER: str(round(at.timestamp()))},
    "epoch_ms": lambda at: {RESET_HEADER: str(round(at.timestamp() * 1000))},
    "retry_after": lambda at: {"retry-after": str(max(0, math.ceil(at.timestamp() - time.time())))},
    "retry_after_date": lambda at: {"retry-after": email.utils.format_datetime(at, usegmt=True)},
    "garbage": lambda _: {RESET_HEADER: "soon"},
    "far": lambda _: {RESET_HEADER: "9999-12-31T23:59:59Z"},
    "past": lambda _: {RESET_HEADER: "2001-01-01T00:00:00Z"},
    "none": lambda _: {},
}


def _reset_header(reset: Reset, at: float) -> dict[str, str]:
    # Whole seconds, never before the reset: most of the formats can say no more.
    return RESETS[reset](datetime.fromtimestamp(math.ceil(at), UTC))


@fault("credits")
async def no_balance(call: Call, proceed: Proceed) -> Answer:
    """Answer that the account, whose key was accepted, has no balance record."""
    answer = await proceed()
    return Answer.of_json(404, {"error": "No credits found for the user"}) if answer.status == 200 else answer


@fault("any")
async def redirect(call: Call, proceed: Proceed, *, url: str, status: int = 302) -> Answer:
    """Answer with a redirect; nothing was accepted."""
    return Answer(status, {"location": url})


@fault("any")
async def raw(
    call: Call,
    proceed: Proceed,
    *,
    body: str | bytes = b"",
    status: int = 200,
    content_type: str = "application/json",
    headers: dict[str, str] | None = None,
) -> Answer:
    """Answer with any body; nothing was accepted."""
    return Answer(status, {"content-type": content_type, **_lower(headers)}, _bytes(body))


@fault("any")
async def raw_after_accept(
    call: Call,
    proceed: Proceed,
    *,
    body: str | bytes = b"",
    status: int = 200,
    content_type: str = "application/json",
    headers: dict[str, str] | None = None,
) -> Answer:
    """Handle the request, then answer with any body."""
    await proceed()
    return Answer(status, {"content-type": content_type, **_lower(headers)}, _bytes(body))


def _bytes(body: str | bytes) -> bytes:
    return body.encode() if isinstance(body, str) else body


def _lower(headers: dict[str, str] | None) -> dict[str, str]:
    return {name.lower(): value for name, value in (headers or {}).items()}
