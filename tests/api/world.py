"""A world for flows: a clock that only moves when a flow pauses, and answers from a script instead of a network."""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Callable

from airflow_provider_segmind.api.operation import ApiContext, Pause, Request, Response, TransportFailure

MODEL = "bria-erase-foreground"
ID = "req-1"
NOON = 1_800_000_000.0
CUT = TransportFailure("ReadTimeout", sent=True)
REFUSED = TransportFailure("ConnectError: [Errno 111] Connection refused", sent=False)


def answer(status=200, body=None, **headers):
    """Return an answer; a body that is neither bytes nor text is sent as JSON."""
    if isinstance(body, str):
        body = body.encode()
    if not isinstance(body, bytes):
        body = b"" if body is None else json.dumps(body).encode()
        headers.setdefault("content_type", "application/json")
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def error(status, text="no", **headers):
    return answer(status, {"error": text}, **headers)


def html(status=502):
    return answer(status, "<html><h1>Bad Gateway</h1></html>", content_type="text/html")


def queued(request_id=ID):
    return answer(200, {"request_id": request_id, "status": "QUEUED", "status_url": "https://decoy.example/s"})


def status(word, **more):
    return answer(422 if word == "FAILED" else 200, {"status": word, "request_id": ID, **more})


def result(output="https://images.segmind.com/generations/a.png", **more):
    return answer(200, {"status": "COMPLETED", "error": None, "output": output, "metrics": {}, **more})


class FakeClock:
    def __init__(self, now=NOON):
        self.now = now

    def __call__(self):
        return self.now


class SpentError(AssertionError):
    """A flow has asked for more than the script has."""


class World:
    """
    Runs flows. ``script`` is a list of replies, used up one by one, or a callable that answers every request.

    A reply is an :class:`Answer`, a :class:`TransportFailure`, or a callable that takes the :class:`Send`.
    """

    def __init__(self, **options):
        self.clock = FakeClock()
        self.sends = []
        self.times = []
        self.pauses = []
        self.api = ApiContext(clock=self.clock, jitter=lambda low, high: (low + high) / 2, **options)

    @property
    def posts(self):
        return [send for send in self.sends if send.method == "POST"]

    def urls(self):
        return [send.url for send in self.sends]

    def run(self, operation, script=(), *, max_sends=2000):
        """Run one flow to its end."""
        step = next(iter(self._steps(operation, self._replies(script), max_sends)), None)
        while True:
            kind, value = step
            if kind == "end":
                return value
            self.clock.now = max(self.clock.now, value)
            step = self._resume()

    def run_all(self, flows, script):
        """Run flows side by side; return the epochs of their requests."""
        replies = self._replies(script)
        order = itertools.count()
        waiting = []
        for operation in flows:
            heapq.heappush(waiting, (self.clock.now, next(order), self._generator(operation, replies, 10**6)))
        while waiting:
            at, _, steps = heapq.heappop(waiting)
            self.clock.now = max(self.clock.now, at)
            kind, value = next(steps)
            if kind == "wake":
                heapq.heappush(waiting, (value, next(order), steps))
        return self.times

    def _steps(self, operation, replies, max_sends):
        self._running = self._generator(operation, replies, max_sends)
        return self._running

    def _resume(self):
        return next(self._running)

    def _generator(self, operation, replies, max_sends):
        """Drive a flow; yield ``("wake", epoch)`` for each pause and ``("end", value)``."""
        try:
            step = next(operation)
            while True:
                if isinstance(step, Pause):
                    assert step.seconds >= 0
                    self.pauses.append(step.seconds)
                    yield "wake", self.clock.now + step.seconds
                    step = operation.send(None)
                    continue
                assert len(self.sends) < max_sends, "requests without end"
                self.sends.append(step)
                self.times.append(self.clock.now)
                try:
                    reply = self._deliver(step, replies(step))
                except TransportFailure as failure:
                    step = operation.throw(failure)
                else:
                    step = operation.send(reply)
        except StopIteration as stop:
            yield "end", stop.value
        finally:
            operation.close()

    def _deliver(self, send: Request, reply):
        while not isinstance(reply, Response | Exception) and callable(reply):
            reply = reply(send)
        if isinstance(reply, Exception):
            raise reply
        if send.into is None or not reply.ok:
            return reply
        send.into.begin(reply.headers)
        for start in range(0, len(reply.body), 1000):
            send.into.write(reply.body[start : start + 1000])
        return Response(reply.status, reply.headers, cut=reply.cut)

    @staticmethod
    def _replies(script) -> Callable:
        if callable(script):
            return script
        left = iter(script)

        def following(send):
            try:
                return next(left)
            except StopIteration:
                raise SpentError(f"nothing is left to answer {send.method} {send.url}") from None

        return following


def always(reply):
    """Return a script that answers everything alike."""
    return lambda send: reply


def broken_off(body, **headers):
    """Return a reply whose body breaks off: a part arrives, then the connection is cut."""

    def reply(send):
        send.into.begin(answer(200, b"", **headers).headers)
        send.into.write(body)
        raise CUT

    return reply
