"""
The rate limit: when the next request to the gateway may be sent. Pure: it owns no clock.

Segmind publishes limits of 5, 50 or more requests a minute, but not whether polls count, nor whether the minute is a
sliding one. So everything that goes to the gateway is counted, and in a sliding minute, which suits either.

How requests wait
-----------------

A request that cannot go yet has a place in a queue: submits stand before polls, and within a kind the first to come is
the first to go. Nobody can wake a waiting operation, because it does nothing but pause. So the limiter tells it when
to ask again: at the slot that it will have if nothing changes, or within ``ASK_AGAIN`` if that is later. Three things
can change meanwhile:

* *A submit arrives.* Every poll behind it asks at its old slot, and gets a later one.
* *A request ahead is cancelled.* Its slot may pass unused if it was near. Those behind notice when they ask again, and
  move up. That is why they ask at least once a minute, at moments that are spread out.
* *A request ahead does not ask in time*, because its thread is late, or gone without a word (a fork copies the queue,
  and not the threads). Its slot is kept for it for ``GRACE``, then it loses its place until it asks.

So a free slot goes to the first of those who could use it now: whoever asks gets it unless somebody ahead is about to
ask. A place is found by bisection, and a slot is estimated from the place alone, so asking costs the same few
microseconds however many wait.

How processes share a limit
---------------------------

A batch alternates between worker processes and a triggerer, which keep to the limit together. Each takes over what its
predecessor handed over: the slots of the last minute, a reset that is to come, and the limit that was learned. That is
plain JSON of less than 2 KB, and may arrive twice, late, or not at all.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from itertools import count
from typing import Any

from airflow_provider_segmind.api.granted_slots import GrantedSlots
from airflow_provider_segmind.api.learned_limit import LEARNED_WINDOW, WINDOW, LearnedLimit
from airflow_provider_segmind.api.models import parse_number

MAX_RESET = 3600.0  # no header may stop a pipeline for a day
ASK_AGAIN = 60.0  # seconds after which a waiting request asks again at the latest
GRACE = 2.0  # seconds for which a slot is kept for a request that does not ask
LATENESS = 1.0  # seconds by which a slot may be used late without delaying the slots after it
CLOCK_STEP = 1.0  # seconds; a clock that goes back by more has been set
HISTORY = 10_000  # granted slots that are remembered while there is no limit, in case one is set
ANSWERED_WITHIN = 10.0  # seconds after which a request without a response is not waited for any more
ASK_AGAIN_UNLIMITED = 0.03  # seconds until a request asks again that waits for the response to another one


class Ticket:
    """A request's place in the queue. Submits sort before polls, and each kind by its arrival."""

    __slots__ = ("ask_at", "place", "waits")

    def __init__(self, place: tuple[bool, int]) -> None:
        self.place = place
        self.waits = False  # whether it stands in the queue
        self.ask_at = 0.0

    def __lt__(self, other: Ticket) -> bool:
        return self.place < other.place


class RateLimiter:
    """
    Gives each request of one connection, in one process, a slot: the moment at which it may go. Thread-safe.

    Callers pass the time, in epoch seconds, and make the pause. Four rules place a slot:

    1. No sliding minute holds more slots than the limit. A fraction is kept by even spacing: 0.5 gives a slot every two
       minutes. Requests that have to wait go evenly spaced, at any limit.
    2. After a 429 no slot comes before the reset.
    3. In the minute after a reset all slots are evenly spaced. Many jobs have waited for that moment, some in the queue
       and some, who met the 429 themselves, outside. All at once they would use up the limit again.
    4. Submits go before polls.

    The limit is ``requests_per_minute`` if that is given, and a 429 does not change it: the user knows better.
    Otherwise nothing is limited until the first 429. Then a limit is learned, which is kept to in the same way (see
    :mod:`airflow_provider_segmind.api.learned_limit`).

    A clock that is set back does not stop the requests: the limiter goes on from the newest time that it was told. One
    that is set forward makes it forget the last minute, which costs a 429 at worst.

    :param requests_per_minute: this process's share of the account's limit, any number above 0; ``None``: learn it
    """

    def __init__(self, requests_per_minute: float | None = None) -> None:
        self._lock = threading.Lock()
        self._configured: float | None = None
        self._learned = LearnedLimit()
        self._arrivals = count()
        self._queue: list[Ticket] = []
        self._granted: deque[float] = deque(maxlen=HISTORY)  # by this process and by others
        self._slots = GrantedSlots()
        self._sent = 0
        self._bursts = False
        self._unanswered: deque[float] = deque(maxlen=HISTORY)
        self._most_unanswered: int | None = None
        self._closed_until = 0.0
        self._next_spaced = 0.0  # the next slot where slots are evenly spaced
        self._newest = self._offset = 0.0  # the newest time, and how far the clock has been set back since the start
        self._limit: float | None = None
        self._minute = self._window = WINDOW
        self._size, self._spacing = 0, 0.0
        self.configure(requests_per_minute)

    @property
    def requests_per_minute(self) -> float | None:
        """The limit that is kept to now, configured or learned; ``None`` if there is none."""
        return self._limit

    @property
    def sent(self) -> int:
        """The number of requests that this process was granted a slot for."""
        return self._sent

    def configure(self, requests_per_minute: float | None) -> None:
        """Change the configured limit. The slots that were granted before count, and who waits keeps their place."""
        with self._lock:
            self._configured = requests_per_minute
            self._use(self._learned.value if requests_per_minute is None else requests_per_minute)

    def _use(self, limit: float | None) -> None:
        minute = WINDOW if self._configured is not None and not self._bursts else LEARNED_WINDOW
        if (limit, minute) == (self._limit, self._minute):
            return
        self._limit, self._minute = limit, minute
        if limit is None:
            self._granted = deque(self._granted, maxlen=HISTORY)
            return
        whole = float(limit).is_integer()
        self._spacing = minute / limit
        self._window, self._size = (minute, int(limit)) if whole else (self._spacing, 1)
        self._granted = deque(self._granted)
        if self._granted:
            spaced = min(self._next_spaced, self._granted[-1] + self._spacing)
            self._next_spaced = max(self._closed_until, spaced)

    def ticket(self, *, submit: bool = False) -> Ticket:
        """Return a new ticket. Whatever becomes of it, pass it to :meth:`leave` in the end."""
        return Ticket((not submit, next(self._arrivals)))

    def take(self, ticket: Ticket, now: float, latest: float = math.inf) -> float | None:
        """
        Take a slot, or a place in the queue.

        :param latest: a slot after this moment is of no use
        :return: ``None``: the request may go now. A moment up to ``latest``: ask again then. A moment after ``latest``:
            no slot is expected before it, so the ticket should leave
        """
        with self._lock:
            now = self._monotonic(now)
            if self._limit is None:
                if self._waits_for_a_response(now):
                    return now + ASK_AGAIN_UNLIMITED - self._offset
                self._use_slot(now)
                return None
            self._prepare(now, ticket)
            ahead = bisect_left(self._queue, ticket)
            if self._is_free(now, ahead):
                self._grant(now, ticket)
                return None
            if now >= self._closed_until:
                self._learned.held_back()
            slot = self._slot(now, ahead)
            if slot > latest + self._offset:
                return slot - self._offset
            if not ticket.waits:
                self._queue.insert(ahead, ticket)
                ticket.waits = True
            # Many may have come at the same moment, and should not all ask again at the same moment.
            spread = ticket.place[1] % 97 / 97
            ticket.ask_at = min(slot, now + ASK_AGAIN * (1 + spread) / 2)
            return ticket.ask_at - self._offset

    def leave(self, ticket: Ticket) -> None:
        """Give up a place in the queue; nothing happens if the ticket has none."""
        if ticket.waits:
            with self._lock:
                self._remove(ticket)

    def next_free(self, now: float) -> float:
        """Return the slot that a new submit would get, without taking it."""
        with self._lock:
            now = self._monotonic(now)
            if self._limit is None:
                return now - self._offset
            ticket = Ticket((False, next(self._arrivals)))
            self._prepare(now, ticket)
            ahead = bisect_left(self._queue, ticket)
            return (now if self._is_free(now, ahead) else self._slot(now, ahead)) - self._offset

    def slots_free(self, now: float, within: float = 0.0) -> int | None:
        """
        Return how many requests could go now; ``None`` if there is no limit.

        :param within: seconds; those that could go by then count. Where slots are evenly spaced, one is free at a time
        """
        with self._lock:
            now = self._monotonic(now)
            if self._limit is None:
                return None
            self._prepare(now)
            end = now + within
            if self._is_spaced(now):
                first = self._slot(now, len(self._queue))
                return 0 if first > end else min(1 + int((end - first) / self._spacing), max(int(self._limit), 1))
            kept = sum(1 for granted in self._granted if granted + self._window > end)
            return max(self._size - kept, 0)

    def free_at(self, now: float, requests: int) -> float:
        """Return when so many requests could go at once, or one after another where slots are evenly spaced."""
        with self._lock:
            now = self._monotonic(now)
            if self._limit is None:
                return now - self._offset
            self._prepare(now)
            if self._is_spaced(now):
                return self._slot(now, len(self._queue) + requests - 1) - self._offset
            in_the_way = len(self._granted) - self._size + min(requests, self._size)
            return (self._granted[in_the_way - 1] + self._window if in_the_way > 0 else now) - self._offset

    def expect_bursts(self, unanswered: int = 1) -> None:
        """
        Be careful from now on: a batch sends so many requests at once that a small error has many of them refused.

        A configured limit is kept to in a minute of 61 s too, since requests do not arrive exactly as far apart as they
        were sent. While no limit is known, few requests are under way when it is met.

        :param unanswered: how many at most; one without a response counts for ``ANSWERED_WITHIN``
        """
        with self._lock:
            self._bursts, self._most_unanswered = True, unanswered
            self._use(self._limit)

    def hand_over(self, now: float) -> dict[str, Any]:
        """Return what the next process needs to know, as plain JSON without any secret; see :meth:`take_over`."""
        with self._lock:
            internal, wall = self._monotonic(now), int(now)
            self._slots.forget_before(wall - max(self._window, WINDOW))
            closed_until = self._closed_until - self._offset if internal < self._closed_until + WINDOW else None
            learned = self._learned.as_json(internal - now + wall) if self._configured is None else None
            return {"at": wall, "slots": self._slots.as_json(wall), "closed_until": closed_until, "learned": learned}

    def take_over(self, value: object, now: float) -> None:
        """
        Take over what another process knows. Slots count once, however often they are handed over and by whom.

        :param value: what :meth:`hand_over` returned; what is damaged or too old to matter is ignored
        """
        at = parse_number(value.get("at")) if isinstance(value, Mapping) else None
        if not isinstance(value, Mapping) or at is None:
            return
        with self._lock:
            internal = self._monotonic(now)
            slots = list(self._granted)
            for second, count in self._slots.take_over(value.get("slots"), at, now + WINDOW):
                # The slot was granted at some time in that second; to assume its end is safe.
                slots += [min(second + 1.0 + self._offset, internal)] * count
                if self._configured is None:
                    self._learned.accepted_elsewhere(int(min(second + self._offset, internal)), count)
            self._granted = deque(sorted(slots), maxlen=self._granted.maxlen)
            if self._configured is None:
                self._learned.take_over(value.get("learned"), at + self._offset, internal)
                self._use(self._learned.value)
            closed_until = parse_number(value.get("closed_until"))
            if closed_until is not None and now - WINDOW < closed_until <= now + MAX_RESET:
                if self._limit is None:
                    self._learned.refused_elsewhere(internal, closed_until + self._offset)
                self._close(closed_until + self._offset)

    def accepted(self, now: float) -> None:
        """Count a response that is not a 429: the limit is learned from it."""
        if self._configured is None:
            with self._lock:
                self._learned.accepted(self._monotonic(now))
                self._answered()

    def refused(self, now: float, reset: float) -> None:
        """Give no slot before the reset of a 429, and learn from the first of those in flight at the same time."""
        with self._lock:
            now, reset = self._monotonic(now), reset + self._offset
            if self._configured is None and now >= self._closed_until:
                self._learned.refused(now, reset)
            self._answered()
            self._close(reset)

    def close_until(self, moment: float) -> None:
        """Give no slot before a moment, because another process was refused until then."""
        with self._lock:
            moment += self._offset
            if moment > max(self._closed_until, self._newest):
                if self._configured is None:
                    self._learned.refused_elsewhere(self._newest, moment)
                self._close(moment)

    def is_recovering(self, now: float) -> bool:
        """Return whether slots are evenly spaced because the reset after a 429 is near, or still to come."""
        with self._lock:
            return self._monotonic(now) < self._closed_until + WINDOW

    def is_closed(self, now: float) -> bool:
        """Return whether the reset after a 429 is still to come."""
        with self._lock:
            return self._monotonic(now) < self._closed_until

    def _close(self, moment: float) -> None:
        if moment > self._closed_until:
            self._closed_until = self._next_spaced = moment
        if self._configured is None:
            self._use(self._learned.value)

    def _monotonic(self, now: float) -> float:
        """Return the time on a clock that is not set back. All moments that are kept are on that clock."""
        now += self._offset
        if now < self._newest - CLOCK_STEP:
            self._offset += self._newest - now
            now = self._newest
        elif now > self._newest:
            self._newest = now
        return now

    def _waits_for_a_response(self, now: float) -> bool:
        """Return whether enough requests are under way, where no limit is known."""
        while self._unanswered and self._unanswered[0] + ANSWERED_WITHIN <= now:
            self._unanswered.popleft()
        return self._most_unanswered is not None and len(self._unanswered) >= self._most_unanswered

    def _answered(self) -> None:
        if self._unanswered:
            self._unanswered.popleft()

    def _use_slot(self, now: float) -> None:
        self._granted.append(now)
        second = int(now - self._offset)
        self._slots.count(second, second - max(self._window, WINDOW))
        self._sent += 1
        if self._most_unanswered is not None and self._configured is None:
            self._unanswered.append(now)

    def _is_spaced(self, now: float) -> bool:
        """Return whether slots are evenly spaced, by rule 1 or 3."""
        return self._size == 1 or bool(self._queue) or now < self._closed_until + WINDOW

    def _prepare(self, now: float, ticket: Ticket | None = None) -> None:
        """Drop what is over: the oldest slots, and the first in the queue if they have not asked for too long."""
        if self._configured is None:
            self._learned.raise_if_due(now)
            self._use(self._learned.value)
        while self._granted and self._granted[0] + max(self._window, WINDOW) <= now:
            self._granted.popleft()
        while self._queue and self._queue[0] is not ticket and self._queue[0].ask_at + GRACE < now:
            self._queue.pop(0).waits = False

    def _slot(self, now: float, ahead: int) -> float:
        """Return the slot of a request that has so many ahead; a bit too early where the last minute was uneven."""
        slot = max(self._closed_until, now - LATENESS)
        if self._queue or now < self._closed_until + WINDOW:
            slot = max(slot, self._next_spaced)
        full = len(self._granted) - self._size
        if full >= 0:
            slot = max(slot, self._granted[full] + self._window)
        if slot <= now - LATENESS:
            slot = now  # slots that nobody has used are not saved up
        slot += ahead * self._spacing
        if 0 <= full + ahead < len(self._granted):
            slot = max(slot, self._granted[full + ahead] + self._window)
        return slot

    def _is_free(self, now: float, ahead: int) -> bool:
        """Return whether there is a slot now that nobody ahead is about to take."""
        free, about_to_ask = self._slot(now, 0) <= now, 0
        for place in range(ahead):
            if not free:
                break
            if self._queue[place].ask_at <= now:
                about_to_ask += 1
                free = self._slot(now, about_to_ask) <= now
        return free

    def _grant(self, now: float, ticket: Ticket) -> None:
        slot = self._slot(now, 0)
        self._remove(ticket)
        self._next_spaced = min(slot, now) + self._spacing
        self._use_slot(now)

    def _remove(self, ticket: Ticket) -> None:
        if ticket.waits:
            del self._queue[bisect_left(self._queue, ticket)]
            ticket.waits = False
