"""Changes to the JSON that the service answers with."""

# ruff: noqa: ARG001 - every fault is called alike

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, Literal

from airflow_provider_segmind.emulator.calls import Answer, Call, Proceed
from airflow_provider_segmind.emulator.effects.registry import HISTORY, POLLS, fault

OutputStyle = Literal["base64", "data_uri", "list", "json_string", "output_only", "images_only", "none"]


async def _changed(proceed: Proceed, change: Callable[[Any], Any]) -> Answer:
    answer = await proceed()
    value = answer.json()
    if isinstance(value, dict) and answer.status in (200, 422):  # an error is left as it is, a failed job is none
        answer.body = json.dumps(change(value)).encode()
    return answer


def _without(*names: str) -> Callable[[Any], Any]:
    return lambda value: {name: part for name, part in value.items() if name not in names}


@fault("submit")
async def no_request_id(call: Call, proceed: Proceed) -> Answer:
    """Accept the job and answer without its id."""
    return await _changed(proceed, _without("request_id", "poll_url", "status_url", "response_url"))


@fault(*POLLS)
async def unknown_status(call: Call, proceed: Proceed, *, word: str = "WARMING_UP") -> Answer:
    """Answer with this word as the status."""
    return await _changed(proceed, lambda value: {**value, "status": word})


@fault(*POLLS)
async def no_metrics(call: Call, proceed: Proceed) -> Answer:
    """Answer with empty metrics."""
    return await _changed(proceed, lambda value: {**value, "metrics": {}})


@fault("result")
async def output_as(call: Call, proceed: Proceed, *, style: OutputStyle = "data_uri") -> Answer:
    """Give the result in another form."""
    png = _first_file(call)
    forms: dict[OutputStyle, Callable[[Any], Any]] = {
        "base64": lambda value: _without("images")({**value, "output": png}),
        "data_uri": lambda value: _without("images")({**value, "output": f"data:image/png;base64,{png}"}),
        "list": lambda value: _without("images")({**value, "output": [value["output"]]}),
        "json_string": lambda value: _without("images")({**value, "output": json.dumps([value["output"]])}),
        "output_only": _without("images"),
        "images_only": _without("output"),
        "none": _without("output", "images"),
    }
    return await _changed(proceed, lambda value: forms[style](value) if value.get("status") == "COMPLETED" else value)


def _first_file(call: Call) -> str:
    names = call.job.files if call.job is not None else []
    return base64.b64encode((call.files / names[0]).read_bytes()).decode() if names else ""


@fault("submit", "result", *HISTORY)
async def foreign_url(call: Call, proceed: Proceed, *, url: str) -> Answer:
    """Name this URL wherever the answer names one of the service's."""
    names = {"poll_url", "status_url", "response_url", "output", "url", "generation_url"}

    def replace(value: Any) -> Any:
        if isinstance(value, list):
            return [replace(part) for part in value]
        if isinstance(value, dict):
            return {
                # What a user sent is no address of the service's.
                name: part if name == "request_body" else url if name in names and part else replace(part)
                for name, part in value.items()
            }
        return value

    return await _changed(proceed, replace)


@fault(*HISTORY)
async def history_without_body(call: Call, proceed: Proceed) -> Answer:
    """List requests without what they asked for."""
    return await _changed(proceed, lambda value: _each_row(value, _without("request_body")))


@fault(*HISTORY)
async def history_short_body(call: Call, proceed: Proceed, *, length: int = 40) -> Answer:
    """List requests with their long parameters shortened."""

    def shorten(row: dict[str, Any]) -> dict[str, Any]:
        body = {
            name: f"{value[:length]}..." if isinstance(value, str) and len(value) > length else value
            for name, value in row.get("request_body", {}).items()
        }
        return {**row, "request_body": body}

    return await _changed(proceed, lambda value: _each_row(value, shorten))


@fault("history")
async def history_shape(call: Call, proceed: Proceed, *, rows: str = "items") -> Answer:
    """Hold the list's rows under another name, or (``list``) answer with them alone."""

    def move(value: dict[str, Any]) -> Any:
        if "data" not in value:
            return value
        return value["data"] if rows == "list" else {**_without("data")(value), rows: value["data"]}

    return await _changed(proceed, move)


def _each_row(value: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        return {**value, "data": [change(row) for row in value["data"]]}
    return change(value) if isinstance(value, dict) and "request_id" in value else value
