"""A world for operations: a clock that moves only when an operation waits, and scripted responses for a network."""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Callable

from airflow_provider_segmind.api.operation import ApiContext, Pause, RenewKey, Request, Response, TransportFailure

MODEL = "bria-erase-foreground"
ID = "req-1"
NOON = 1_800_000_000.0
CUT = TransportFailure("ReadTimeout", sent=True)
REFUSED = TransportFailure("ConnectError: [Errno 111] Connection refused", sent=False)


def response(status=200, body=None, **headers):
    """Return a response; a body that is neither bytes nor text is sent as JSON."""
    if isinstance(body, str):
        body = body.encode()
    if not isinstance(body, bytes):
        body = b"" if body is None else json.dumps(body).encode()
        headers.setdefault("content_type", "application/json")
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


answer = response  # the name that tests/jobs imports


def error(status, text="no", **headers):
    return response(status, {"error": text}, **headers)


def html(status=502):
    return response(status, "<html><h1>Bad Gateway</h1></html>", content_type="text/html")


def queued(request_id=ID):
    return response(200, {"request_id": request_id, "status": "QUEUED", "status_url": "https://decoy.example/s"})


def status(word, **more):
    return response(422 if word == "FAILED" else 200, {"status": word, "request_id": ID, **more})


def result(output="https://images.segmind.com/generations/a.png", **more):
    return response(200, {"status": "COMPLETED", "error": None, "output": output, "metrics": {}, **more})


class FakeClock:
    def __init__(self, now=NOON):
        self.now = now

    def __call__(self):
        return self.now


class ScriptEndedError(AssertionError):
    """An operation has sent more requests than the script has replies."""


class World:
    """
    Runs operations. ``script`` is a list of replies, used up one by one, or a callable that replies to each request.

    A reply is a :class:`Response`, a :class:`TransportFailure`, or a callable that takes the :class:`Request`.
    """

    def __init__(self, **options):
        self.clock = FakeClock()
        self.requests = []
        self.times = []
        self.pauses = []
        self.key_is_new = False  # what looking the connection up again finds
        self.look_ups = 0
        self.api = ApiContext(clock=self.clock, jitter=lambda low, high: (low + high) / 2, **options)

    @property
    def posts(self):
        return [request for request in self.requests if request.method == "POST"]

    @property
    def sends(self):  # the name that tests/jobs uses
        return self.requests

    def urls(self):
        return [request.url for request in self.requests]

    def hangs(self, request):
        """Reply to a request by letting it take all the time that it has, and then failing."""
        self.clock.now += request.max_seconds
        raise CUT

    def drips(self, request):
        """Reply to a request with a body that is not whole by the time that the request may take."""
        self.clock.now += request.max_seconds
        return Response(200, {}, b'{"status": "COMP', truncated="not whole in time")

    def takes(self, seconds, reply):
        """Return a reply that comes after some seconds, or not at all where its request has fewer."""

        def replying(request):
            if seconds > request.max_seconds:
                return self.hangs
            self.clock.now += seconds
            return reply

        return replying

    def slowly(self, reply):
        """Return a reply that comes at the very end of the time that its request may take."""

        def replying(request):
            self.clock.now += request.max_seconds
            return reply

        return replying

    def run(self, operation, script=(), *, max_requests=2000):
        """Run one operation to its end and return its value."""
        for kind, value in self._steps(operation, self._replies(script), max_requests):
            if kind == "end":
                return value
            self.clock.now = max(self.clock.now, value)
        raise AssertionError("an operation ends with a value or an error")

    def run_all(self, operations, script):
        """Run operations side by side; return the epochs of their requests."""
        replies = self._replies(script)
        order = itertools.count()
        waiting = []
        for operation in operations:
            heapq.heappush(waiting, (self.clock.now, next(order), self._steps(operation, replies, 10**6)))
        while waiting:
            at, _, steps = heapq.heappop(waiting)
            self.clock.now = max(self.clock.now, at)
            kind, value = next(steps)
            if kind == "wake":
                heapq.heappush(waiting, (value, next(order), steps))
        return self.times

    def _steps(self, operation, replies, max_requests):
        """Drive an operation; yield ``("wake", epoch)`` for each pause and ``("end", value)``."""
        try:
            step = next(operation)
            while True:
                if isinstance(step, Pause):
                    assert step.seconds >= 0
                    self.pauses.append(step.seconds)
                    yield "wake", self.clock.now + step.seconds
                    step = operation.send(None)
                    continue
                if isinstance(step, RenewKey):
                    self.look_ups += 1
                    step = operation.send(self.key_is_new)
                    continue
                assert len(self.requests) < max_requests, "requests without end"
                self.requests.append(step)
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

    def _deliver(self, request: Request, reply):
        while not isinstance(reply, Response | Exception) and callable(reply):
            reply = reply(request)
        if isinstance(reply, Exception):
            raise reply
        if request.into is None or not reply.ok:
            return reply
        request.into.begin(reply.headers)
        for start in range(0, len(reply.body), 1000):
            request.into.write(reply.body[start : start + 1000])
        return Response(reply.status, reply.headers, truncated=reply.truncated)

    @staticmethod
    def _replies(script) -> Callable:
        if callable(script):
            return script
        left = iter(script)

        def following(request):
            try:
                return next(left)
            except StopIteration:
                raise ScriptEndedError(f"no reply is left for {request.method} {request.url}") from None

        return following


def always(reply):
    """Return a script that replies to everything alike."""
    return lambda request: reply


def broken_off(body, **headers):
    """Return a reply whose body breaks off: a part arrives, then the connection is cut."""

    def reply(request):
        request.into.begin(response(200, b"", **headers).headers)
        request.into.write(body)
        raise CUT

    return reply
