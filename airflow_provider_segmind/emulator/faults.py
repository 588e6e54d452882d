"""
The fault switches: which fault strikes which request.

What a fault does once it strikes is in the package ``effects``.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_segmind.emulator.calls import KINDS, Call
from airflow_provider_segmind.emulator.effects import EFFECTS, check_options


@dataclass(slots=True)
class Fault:
    """
    One switch.

    :param name: what happens, a name of ``EFFECTS``
    :param on: the kinds of request that it counts
    :param nth: it first strikes the n-th matching request, from 1
    :param times: how many matching requests it then strikes, ``None`` for all
    :param image: only requests about images whose URL (or other text, or sha256) contains this
    :param model: only requests about this model
    :param probability: strikes each of these requests with this probability
    :param each_image: count the requests about each image for themselves
    :param options: the effect's own options
    :param id: its number, by which it can be removed
    :param seen: how many requests have matched
    :param struck: how many were struck
    :param seen_of_image: how many requests have matched, by image
    """

    name: str
    on: tuple[str, ...]
    nth: int = 1
    times: int | None = 1
    image: str | None = None
    model: str | None = None
    probability: float = 1.0
    each_image: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    id: int = 0
    seen: int = 0
    struck: int = 0
    seen_of_image: Counter[str] = field(default_factory=Counter)

    def strikes(self, call: Call, chance: float) -> bool:
        """
        Count a request and tell whether it is struck.

        :param call: the request
        :param chance: a random number below 1
        """
        if call.kind not in self.on or (self.model is not None and self.model != call.model):
            return False
        if self.image is not None and self.image not in call.source:
            return False
        self.seen += 1
        self.seen_of_image[call.image] += 1
        seen = self.seen_of_image[call.image] if self.each_image else self.seen
        last = None if self.times is None else self.nth + self.times - 1
        if seen < self.nth or (last is not None and seen > last) or chance >= self.probability:
            return False
        self.struck += 1
        return True

    def as_dict(self) -> dict[str, Any]:
        """Return the switch and its counters, for introspection."""
        options = {name: _printable(value) for name, value in self.options.items()}
        return {**{name: getattr(self, name) for name in self.__slots__}, "options": options}


def _printable(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


class Faults:
    """
    All switches of one emulator; safe to use from any thread.

    :param seed: makes ``probability`` repeatable
    """

    def __init__(self, seed: int | None = None) -> None:
        self._faults: list[Fault] = []
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._random = random.Random(seed)  # noqa: S311 - nothing secret

    def add(
        self,
        name: str,
        *,
        on: str | Iterable[str] | None = None,
        nth: int = 1,
        times: int | None = 1,
        image: str | None = None,
        model: str | None = None,
        probability: float = 1.0,
        each_image: bool = False,
        **options: Any,
    ) -> Fault:
        """
        Switch a fault on.

        :param name: what happens
        :param on: the kinds of request that it counts: one, several, or ``"any"``; each fault has its usual ones
        :param nth: it first strikes the n-th matching request, from 1
        :param times: how many matching requests it then strikes, ``None`` for all
        :param image: only requests about images whose URL (or other text, or sha256) contains this
        :param model: only requests about this model
        :param probability: strikes each of these requests with this probability
        :param each_image: count the requests about each image for themselves
        :param options: the fault's own options
        """
        if name not in EFFECTS:
            raise ValueError(f"no fault is named {name!r}; there are {', '.join(sorted(EFFECTS))}")
        check_options(name, options)
        kinds = EFFECTS[name].on if on is None else (on,) if isinstance(on, str) else tuple(on)
        if "any" in kinds:
            kinds = KINDS
        if unknown := set(kinds) - set(KINDS):
            raise ValueError(f"no kind of request is named {sorted(unknown)}; there are {', '.join(KINDS)}")
        if nth < 1 or (times is not None and times < 1):
            raise ValueError("nth and times count from 1; times=None strikes all")
        with self._lock:
            fault = Fault(name, kinds, nth, times, image, model, probability, each_image, options, next(self._ids))
            self._faults.append(fault)
        return fault

    def remove(self, fault_id: int) -> bool:
        """
        Switch one fault off and tell whether there was one.

        :param fault_id: its number
        """
        with self._lock:
            kept = [fault for fault in self._faults if fault.id != fault_id]
            found = len(kept) < len(self._faults)
            self._faults = kept
        return found

    def clear(self) -> None:
        """Switch all faults off."""
        with self._lock:
            self._faults = []

    def all(self) -> list[Fault]:
        """Return all switches, in the order in which they were added."""
        with self._lock:
            return list(self._faults)

    def striking(self, call: Call) -> list[Fault]:
        """
        Return the faults that strike a request, in the order in which they were added.

        :param call: the request
        """
        with self._lock:
            return [fault for fault in self._faults if fault.strikes(call, self._random.random())]
