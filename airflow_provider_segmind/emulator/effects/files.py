"""Result files that are cut short or something else."""

# ruff: noqa: ARG001 - every fault is called alike

from __future__ import annotations

from typing import Literal

from airflow_provider_segmind.emulator.calls import Answer, Call, Proceed
from airflow_provider_segmind.emulator.effects.registry import fault

Content = Literal["html", "empty", "text", "text_as_png"]


@fault("file")
async def truncated_file(call: Call, proceed: Proceed, *, share: float = 0.5) -> Answer:
    """Declare the file's whole length, send this share of it and cut the connection."""
    answer = await proceed()
    answer.cut_at = int(len(answer.body) * share)
    return answer


@fault("file")
async def truncated_chunked(call: Call, proceed: Proceed, *, share: float = 0.5) -> Answer:
    """Declare no length and end properly after this share of the file."""
    answer = await proceed()
    answer.body, answer.chunked = answer.body[: int(len(answer.body) * share)], True
    return answer


@fault("file")
async def wrong_file(
    call: Call, proceed: Proceed, *, content: Content = "html", content_type: str | None = None
) -> Answer:
    """Serve something else with status 200."""
    declared, body = WRONG_FILES[content]
    return Answer(200, {"content-type": content_type or declared}, body)


WRONG_FILES: dict[Content, tuple[str, bytes]] = {
    "html": ("text/html", b"<!doctype html><html><body>We will be back soon</body></html>"),
    "empty": ("image/png", b""),
    "text": ("text/plain", b"internal error"),
    "text_as_png": ("image/png", b"internal error"),
}
