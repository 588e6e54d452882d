"""The registry of all faults by name."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Concatenate, Literal, ParamSpec, get_args, get_origin, get_type_hints

from airflow_provider_segmind.emulator.http_messages import EmulatorRequest, EmulatorResponse, Proceed

P = ParamSpec("P")

SUBMITS = ("submit", "sync")
POLLS = ("status", "result")
HISTORY = ("history", "record")


@dataclass(frozen=True, slots=True)
class Effect:
    """
    What a fault does.

    :param on: the kinds of request that match by default
    :param run: handles a request that the fault strikes
    """

    on: tuple[str, ...]
    run: Callable[..., Awaitable[EmulatorResponse]]


EFFECTS: dict[str, Effect] = {}


def fault(
    *on: str,
) -> Callable[
    [Callable[Concatenate[EmulatorRequest, Proceed, P], Awaitable[EmulatorResponse]]],
    Callable[Concatenate[EmulatorRequest, Proceed, P], Awaitable[EmulatorResponse]],
]:
    """
    Register a function as a fault; its keyword-only arguments are the fault's options.

    :param on: the kinds of request that match by default
    """

    def register(
        run: Callable[Concatenate[EmulatorRequest, Proceed, P], Awaitable[EmulatorResponse]],
    ) -> Callable[Concatenate[EmulatorRequest, Proceed, P], Awaitable[EmulatorResponse]]:
        EFFECTS[run.__name__] = Effect(on, run)
        return run

    return register


def check_options(name: str, options: dict[str, Any]) -> None:
    """
    Check the options of a fault.

    :param name: the name of the fault
    :param options: its options
    :raises ValueError: an option is unknown or missing, or its value is invalid
    """
    run = EFFECTS[name].run
    hints = get_type_hints(run)
    known = {
        key: parameter
        for key, parameter in inspect.signature(run).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    if unknown := set(options) - set(known):
        raise ValueError(f"Unknown options {sorted(unknown)} of the fault {name}. Its options are {sorted(known)}.")
    for key, parameter in known.items():
        if key not in options and parameter.default is inspect.Parameter.empty:
            raise ValueError(f"Missing option {key!r} of the fault {name}.")
    for key, value in options.items():
        if get_origin(hints[key]) is Literal and value not in get_args(hints[key]):
            raise ValueError(f"Invalid {key}={value!r} of the fault {name}. Use one of {list(get_args(hints[key]))}.")
        if hints[key] in (int, float) and (isinstance(value, bool) or not isinstance(value, int | hints[key])):
            raise ValueError(f"Invalid {key}={value!r} of the fault {name}. Use a number.")
        if hints[key] is str and not isinstance(value, str):
            raise ValueError(f"Invalid {key}={value!r} of the fault {name}. Use a string.")
