"""Faults of result files: truncated, or another content."""

# ruff: noqa: ARG001 - the signature of all faults

from __future__ import annotations

from typing import Literal

from airflow_provider_segmind.emulator.fault_effects.registry import fault
from airflow_provider_segmind.emulator.http_messages import EmulatorRequest, EmulatorResponse, Proceed

Content = Literal["html", "empty", "text", "text_as_png"]


@fault("file")
async def truncated_file(request: EmulatorRequest, proceed: Proceed, *, share: float = 0.5) -> EmulatorResponse:
    """Declare the full length, send this share of the file and close the connection."""
    response = await proceed()
    response.cut_at = int(len(response.body) * share)
    return response


@fault("file")
async def truncated_chunked(request: EmulatorRequest, proceed: Proceed, *, share: float = 0.5) -> EmulatorResponse:
    """Declare no length and end the body normally after this share of the file."""
    response = await proceed()
    response.body, response.chunked = response.body[: int(len(response.body) * share)], True
    return response


@fault("file")
async def wrong_file(
    request: EmulatorRequest, proceed: Proceed, *, content: Content = "html", content_type: str | None = None
) -> EmulatorResponse:
    """Serve another content with status 200."""
    declared, body = WRONG_FILES[content]
    return EmulatorResponse(200, {"content-type": content_type or declared}, body)


WRONG_FILES: dict[Content, tuple[str, bytes]] = {
    "html": ("text/html", b"<!doctype html><html><body>We will be back soon</body></html>"),
    "empty": ("image/png", b""),
    "text": ("text/plain", b"internal error"),
    "text_as_png": ("image/png", b"internal error"),
}
