"""
The fault switches, which decide which fault strikes which request.

What a fault does when it strikes is in the package ``fault_effects``.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_segmind.emulator.fault_effects import EFFECTS, check_options
from airflow_provider_segmind.emulator.http_messages import REQUEST_KINDS, EmulatorRequest


@dataclass(slots=True)
class Fault:
    """
    One switch; see :meth:`Faults.add` for the fields that are not listed here.

    :param options: the options of the fault itself
    :param id: its number, by which it can be removed
    :param seen: the number of matching requests
    :param struck: the number of requests that it struck
    :param seen_of_image: the number of matching requests by image
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

    def strikes(self, request: EmulatorRequest, chance: float) -> bool:
        """
        Count a request if it matches, and return whether the fault strikes it.

        :param request: the request
        :param chance: a random number below 1
        """
        if request.kind not in self.on or (self.model is not None and self.model != request.model):
            return False
        if self.image is not None and self.image not in request.source:
            return False
        self.seen += 1
        self.seen_of_image[request.image] += 1
        seen = self.seen_of_image[request.image] if self.each_image else self.seen
        last = None if self.times is None else self.nth + self.times - 1
        if seen < self.nth or (last is not None and seen > last) or chance >= self.probability:
            return False
        self.struck += 1
        return True

    def as_dict(self) -> dict[str, Any]:
        """Return the switch and its counters, for ``GET /emulator/faults``."""
        options = {name: _printable(value) for name, value in self.options.items()}
        return {**{name: getattr(self, name) for name in self.__slots__}, "options": options}


def _printable(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


class Faults:
    """
    All fault switches of one emulator; thread-safe.

    :param seed: makes ``probability`` repeatable
    """

    def __init__(self, seed: int | None = None) -> None:
        self._faults: list[Fault] = []
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._random = random.Random(seed)  # noqa: S311 - not a secret

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

        :param name: the name of the fault, see ``docs/emulator.md``
        :param on: the kinds of request that match: one, several, or ``"any"``; each fault has its own default
        :param nth: the first matching request that it strikes, counted from 1
        :param times: the number of matching requests that it strikes from there on, ``None`` for all
        :param image: match only requests about images whose URL (or other text parameter, or SHA-256) contains this
        :param model: match only requests about this model
        :param probability: strike each of these requests with this probability
        :param each_image: count the matching requests of each image separately
        :param options: the options of the fault itself
        :raises ValueError: a name or an option is unknown, or a value is invalid
        """
        if name not in EFFECTS:
            raise ValueError(f"Unknown fault {name!r}. Use one of {', '.join(sorted(EFFECTS))}.")
        check_options(name, options)
        kinds = EFFECTS[name].on if on is None else (on,) if isinstance(on, str) else tuple(on)
        if "any" in kinds:
            kinds = REQUEST_KINDS
        if unknown := set(kinds) - set(REQUEST_KINDS):
            raise ValueError(f"Unknown kinds of request {sorted(unknown)}. Use 'any' or {', '.join(REQUEST_KINDS)}.")
        if nth < 1 or (times is not None and times < 1):
            raise ValueError(f"Invalid nth={nth}, times={times}. Use 1 or more, or times=None for all requests.")
        with self._lock:
            fault = Fault(name, kinds, nth, times, image, model, probability, each_image, options, next(self._ids))
            self._faults.append(fault)
        return fault

    def remove(self, fault_id: int) -> bool:
        """
        Switch one fault off.

        :param fault_id: its number
        :return: whether there was such a fault
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

    def striking(self, request: EmulatorRequest) -> list[Fault]:
        """
        Return the faults that strike a request, in the order in which they were added.

        :param request: the request
        """
        with self._lock:
            return [fault for fault in self._faults if fault.strikes(request, self._random.random())]
