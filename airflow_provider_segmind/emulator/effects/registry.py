"""All faults by their names."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Concatenate, Literal, ParamSpec, get_args, get_origin, get_type_hints

from airflow_provider_segmind.emulator.calls import Answer, Call, Proceed

P = ParamSpec("P")

SUBMITS = ("submit", "sync")
POLLS = ("status", "result")
HISTORY = ("history", "record")


@dataclass(frozen=True, slots=True)
class Effect:
    """
    One kind of fault.

    :param on: the kinds of request that it strikes unless told otherwise
    :param run: the fault itself
    """

    on: tuple[str, ...]
    run: Callable[..., Awaitable[Answer]]


EFFECTS: dict[str, Effect] = {}


def fault(
    *on: str,
) -> Callable[
    [Callable[Concatenate[Call, Proceed, P], Awaitable[Answer]]],
    Callable[Concatenate[Call, Proceed, P], Awaitable[Answer]],
]:
    """
    Make a function known as a fault; its keyword arguments are the fault's options.

    :param on: the kinds of request that it strikes unless told otherwise
    """

    def register(
        run: Callable[Concatenate[Call, Proceed, P], Awaitable[Answer]],
    ) -> Callable[Concatenate[Call, Proceed, P], Awaitable[Answer]]:
        EFFECTS[run.__name__] = Effect(on, run)
        return run

    return register


def check_options(name: str, options: dict[str, Any]) -> None:
    """
    Refuse options that a fault does not have, or values that it cannot use.

    :param name: the fault
    :param options: its options
    """
    run = EFFECTS[name].run
    hints = get_type_hints(run)
    known = {
        key: parameter
        for key, parameter in inspect.signature(run).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    if unknown := set(options) - set(known):
        raise ValueError(f"the fault {name} has no option {sorted(unknown)}; it has {sorted(known)}")
    for key, parameter in known.items():
        if key not in options and parameter.default is inspect.Parameter.empty:
            raise ValueError(f"the fault {name} needs the option {key!r}")
    for key, value in options.items():
        if get_origin(hints[key]) is Literal and value not in get_args(hints[key]):
            raise ValueError(f"{key} of the fault {name} must be one of {list(get_args(hints[key]))}, it is {value!r}")
        if hints[key] in (int, float) and (isinstance(value, bool) or not isinstance(value, int | hints[key])):
            raise ValueError(f"{key} of the fault {name} must be a number, it is {value!r}")
        if hints[key] is str and not isinstance(value, str):
            raise ValueError(f"{key} of the fault {name} must be a text, it is {value!r}")
