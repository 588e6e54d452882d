"""Faults of the connection: cut, silent, slow, endless."""

# ruff: noqa: ARG001 - every fault is called alike

from __future__ import annotations

import asyncio

from airflow_provider_segmind.emulator.calls import Answer, Call, ConnectionCut, Proceed
from airflow_provider_segmind.emulator.effects.registry import fault


@fault("submit")
async def cut_before_accept(call: Call, proceed: Proceed) -> Answer:
    """Close the connection without an answer; nothing was accepted."""
    raise ConnectionCut


@fault("submit")
async def cut_after_accept(call: Call, proceed: Proceed) -> Answer:
    """Handle the request, then close the connection without an answer."""
    await proceed()
    raise ConnectionCut


@fault("submit")
async def hang_before_accept(call: Call, proceed: Proceed) -> Answer:
    """Never answer; nothing was accepted."""
    await call.disconnected()
    raise ConnectionCut


@fault("submit")
async def hang_after_accept(call: Call, proceed: Proceed) -> Answer:
    """Handle the request, then never answer."""
    await proceed()
    await call.disconnected()
    raise ConnectionCut


@fault("any")
async def slow(call: Call, proceed: Proceed, *, seconds: float = 3.0) -> Answer:
    """Handle the request, then answer late."""
    answer = await proceed()
    await asyncio.sleep(seconds)
    return answer


@fault("any")
async def drip(call: Call, proceed: Proceed, *, seconds: float = 1.0) -> Answer:
    """Send the answer's body byte by byte, this many seconds apart."""
    answer = await proceed()
    answer.pause = seconds
    return answer


@fault("any")
async def endless(call: Call, proceed: Proceed, *, body: str | bytes = " " * 65536) -> Answer:
    """Answer with a body that never ends; nothing was accepted."""
    return Answer(
        200,
        {"content-type": "application/json"},
        body if isinstance(body, bytes) else body.encode(),
        chunked=True,
        endless=True,
    )
