"""Faults of the connection: closed, silent, slow or endless."""

# ruff: noqa: ARG001 - the signature of all faults

from __future__ import annotations

import asyncio

from airflow_provider_segmind.emulator.fault_effects.registry import fault
from airflow_provider_segmind.emulator.http_messages import ConnectionCut, EmulatorRequest, EmulatorResponse, Proceed


@fault("submit")
async def cut_before_accept(request: EmulatorRequest, proceed: Proceed) -> EmulatorResponse:
    """Close the connection without a response; nothing is accepted."""
    raise ConnectionCut


@fault("submit")
async def cut_after_accept(request: EmulatorRequest, proceed: Proceed) -> EmulatorResponse:
    """Handle the request, then close the connection without a response."""
    await proceed()
    raise ConnectionCut


@fault("submit")
async def hang_before_accept(request: EmulatorRequest, proceed: Proceed) -> EmulatorResponse:
    """Never respond; nothing is accepted."""
    await request.disconnected()
    raise ConnectionCut


@fault("submit")
async def hang_after_accept(request: EmulatorRequest, proceed: Proceed) -> EmulatorResponse:
    """Handle the request, then never respond."""
    await proceed()
    await request.disconnected()
    raise ConnectionCut


@fault("any")
async def slow(request: EmulatorRequest, proceed: Proceed, *, seconds: float = 3.0) -> EmulatorResponse:
    """Handle the request, then respond late."""
    response = await proceed()
    await asyncio.sleep(seconds)
    return response


@fault("any")
async def drip(request: EmulatorRequest, proceed: Proceed, *, seconds: float = 1.0) -> EmulatorResponse:
    """Send the body byte by byte, this many seconds apart."""
    response = await proceed()
    response.pause = seconds
    return response


@fault("any")
async def endless(request: EmulatorRequest, proceed: Proceed, *, body: str | bytes = " " * 65536) -> EmulatorResponse:
    """Send a body that never ends; nothing is accepted."""
    return EmulatorResponse(
        200,
        {"content-type": "application/json"},
        body if isinstance(body, bytes) else body.encode(),
        chunked=True,
        endless=True,
    )
