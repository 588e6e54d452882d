"""Faults that change fields of the JSON that an endpoint returns."""

# ruff: noqa: ARG001 - the signature of all faults

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, Literal

from airflow_provider_segmind.emulator.fault_effects.registry import HISTORY, POLLS, fault
from airflow_provider_segmind.emulator.http_messages import EmulatorRequest, EmulatorResponse, Proceed

OutputStyle = Literal["base64", "data_uri", "list", "json_string", "output_only", "images_only", "several", "none"]


async def _changed(proceed: Proceed, change: Callable[[Any], Any]) -> EmulatorResponse:
    response = await proceed()
    value = response.json()
    successful_or_failed_job = response.status in (200, 422)
    if successful_or_failed_job and isinstance(value, dict):
        response.body = json.dumps(change(value)).encode()
    return response


def _without(*names: str) -> Callable[[Any], Any]:
    return lambda value: {name: part for name, part in value.items() if name not in names}


@fault("submit")
async def no_request_id(request: EmulatorRequest, proceed: Proceed) -> EmulatorResponse:
    """Accept the job and respond without its id."""
    return await _changed(proceed, _without("request_id", "poll_url", "status_url", "response_url"))


@fault(*POLLS)
async def unknown_status(request: EmulatorRequest, proceed: Proceed, *, word: str = "WARMING_UP") -> EmulatorResponse:
    """Return this word as the status."""
    return await _changed(proceed, lambda value: {**value, "status": word})


@fault(*POLLS)
async def no_metrics(request: EmulatorRequest, proceed: Proceed) -> EmulatorResponse:
    """Return empty metrics."""
    return await _changed(proceed, lambda value: {**value, "metrics": {}})


@fault("result")
async def output_as(request: EmulatorRequest, proceed: Proceed, *, style: OutputStyle = "data_uri") -> EmulatorResponse:
    """Return the result in another form."""
    png = _first_file(request)
    forms: dict[OutputStyle, Callable[[Any], Any]] = {
        "base64": lambda value: _without("images")({**value, "output": png}),
        "data_uri": lambda value: _without("images")({**value, "output": f"data:image/png;base64,{png}"}),
        "list": lambda value: _without("images")({**value, "output": [value["output"]]}),
        "json_string": lambda value: _without("images")({**value, "output": json.dumps([value["output"]])}),
        "output_only": _without("images"),
        "images_only": _without("output"),
        "several": lambda value: {
            **value,
            "images": [*value["images"], {"url": _second_file(request, value["output"])}],
        },
        "none": _without("output", "images"),
    }
    return await _changed(proceed, lambda value: forms[style](value) if value.get("status") == "COMPLETED" else value)


def _first_file(request: EmulatorRequest) -> str:
    names = request.job.files if request.job is not None else []
    return base64.b64encode((request.files / names[0]).read_bytes()).decode() if names else ""


def _second_file(request: EmulatorRequest, url: str) -> str:
    """Copy the job's first file and return the copy's address."""
    address, dot, extension = url.rpartition(".")
    second = f"{address}-2{dot}{extension}"
    original, copy = (request.files / each.rpartition("/")[2] for each in (url, second))
    copy.write_bytes(original.read_bytes())
    return second


@fault("submit", "result", *HISTORY)
async def foreign_url(request: EmulatorRequest, proceed: Proceed, *, url: str) -> EmulatorResponse:
    """Replace every URL of the service in the response by this one."""
    names = {"poll_url", "status_url", "response_url", "output", "url", "generation_url"}

    def replace(value: Any) -> Any:
        if isinstance(value, list):
            return [replace(part) for part in value]
        if isinstance(value, dict):
            return {
                # These are the URLs that the user sent.
                name: part if name == "request_body" else url if name in names and part else replace(part)
                for name, part in value.items()
            }
        return value

    return await _changed(proceed, replace)


@fault(*HISTORY)
async def history_without_body(request: EmulatorRequest, proceed: Proceed) -> EmulatorResponse:
    """Return rows without the inputs."""
    return await _changed(proceed, lambda value: _each_row(value, _without("request_body")))


@fault(*HISTORY)
async def history_without_time(request: EmulatorRequest, proceed: Proceed) -> EmulatorResponse:
    """Return rows that do not say when the request was made."""
    without_time = _without("model_created", "created_at", "timestamp")
    return await _changed(proceed, lambda value: _each_row(value, without_time))


@fault(*HISTORY)
async def history_short_body(request: EmulatorRequest, proceed: Proceed, *, length: int = 40) -> EmulatorResponse:
    """Return rows whose long inputs are shortened."""

    def shorten(row: dict[str, Any]) -> dict[str, Any]:
        body = {
            name: f"{value[:length]}..." if isinstance(value, str) and len(value) > length else value
            for name, value in row.get("request_body", {}).items()
        }
        return {**row, "request_body": body}

    return await _changed(proceed, lambda value: _each_row(value, shorten))


@fault("history")
async def history_shape(request: EmulatorRequest, proceed: Proceed, *, rows: str = "items") -> EmulatorResponse:
    """Return the rows under another name, or (``list``) as a bare list."""

    def move(value: dict[str, Any]) -> Any:
        if "data" not in value:
            return value
        return value["data"] if rows == "list" else {**_without("data")(value), rows: value["data"]}

    return await _changed(proceed, move)


def _each_row(value: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        return {**value, "data": [change(row) for row in value["data"]]}
    return change(value) if isinstance(value, dict) and "request_id" in value else value
