"""Faults that replace the response: errors, rate limits, redirects or any body."""

# ruff: noqa: ARG001 - the signature of all faults

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from airflow_provider_segmind.emulator.fault_effects.registry import fault
from airflow_provider_segmind.emulator.http_messages import EmulatorRequest, EmulatorResponse, Proceed

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


def _error(status: int, style: Style, text: str | None) -> EmulatorResponse:
    text = ERROR_TEXTS.get(status, "Error") if text is None else text
    if style == "html":
        page = f"<html><head><title>{status}</title></head><body><h1>{status} {text}</h1></body></html>"
        return EmulatorResponse(status, {"content-type": "text/html"}, page.encode())
    if style == "empty":
        return EmulatorResponse(status)
    if status == 401:
        return EmulatorResponse.of_json(
            status, {"error": "invalid_api_key", "error_description": text, "status_code": status}
        )
    return EmulatorResponse.of_json(status, {"error": text})


@fault("submit")
async def error(
    request: EmulatorRequest, proceed: Proceed, *, status: int = 500, style: Style = "gateway", text: str | None = None
) -> EmulatorResponse:
    """Return an error; nothing is accepted."""
    return _error(status, style, text)


@fault("submit")
async def error_after_accept(
    request: EmulatorRequest, proceed: Proceed, *, status: int = 504, style: Style = "html", text: str | None = None
) -> EmulatorResponse:
    """Handle the request, then return an error nevertheless."""
    await proceed()
    return _error(status, style, text)


@fault("submit", "status", "result", "credits")
async def rate_limited(
    request: EmulatorRequest, proceed: Proceed, *, reset: Reset = "iso", seconds: float = 1.0
) -> EmulatorResponse:
    """Return a 429 whose reset is this many seconds away, in one of the formats."""
    return EmulatorResponse.of_json(429, {"error": ERROR_TEXTS[429]}, _reset_header(reset, time.time() + seconds))


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
    # Most formats have whole seconds; round up, so that no client returns before the reset.
    return RESETS[reset](datetime.fromtimestamp(math.ceil(at), UTC))


@fault("credits")
async def no_balance(request: EmulatorRequest, proceed: Proceed) -> EmulatorResponse:
    """Return the 404 of an account that has no balance record, if its key is accepted."""
    response = await proceed()
    return (
        EmulatorResponse.of_json(404, {"error": "No credits found for the user"})
        if response.status == 200
        else response
    )


@fault("any")
async def redirect(request: EmulatorRequest, proceed: Proceed, *, url: str, status: int = 302) -> EmulatorResponse:
    """Return a redirect; nothing is accepted."""
    return EmulatorResponse(status, {"location": url})


@fault("any")
async def raw(
    request: EmulatorRequest,
    proceed: Proceed,
    *,
    body: str | bytes = b"",
    status: int = 200,
    content_type: str = "application/json",
    headers: dict[str, str] | None = None,
) -> EmulatorResponse:
    """Return any body; nothing is accepted."""
    return _response(body, status, content_type, headers)


@fault("any")
async def raw_after_accept(
    request: EmulatorRequest,
    proceed: Proceed,
    *,
    body: str | bytes = b"",
    status: int = 200,
    content_type: str = "application/json",
    headers: dict[str, str] | None = None,
) -> EmulatorResponse:
    """Handle the request, then return any body."""
    await proceed()
    return _response(body, status, content_type, headers)


def _response(body: str | bytes, status: int, content_type: str, headers: dict[str, str] | None) -> EmulatorResponse:
    more = {name.lower(): value for name, value in (headers or {}).items()}
    return EmulatorResponse(
        status, {"content-type": content_type, **more}, body.encode() if isinstance(body, str) else body
    )
