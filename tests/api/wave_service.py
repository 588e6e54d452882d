"""A server with the jobs of a wave, which a World's requests are answered by."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime

from airflow_provider_segmind.api.wave import Wave, WaveJob

from .world import MODEL, NOON, World, error, response, status


class WaveService:
    """
    Jobs that were submitted at noon or later, and what the service says about them.

    ``seconds`` maps a request id to how long its job takes; ``odd`` maps one to a reply to its polls; ``rows`` changes
    the rows of the history.
    """

    def __init__(self, world, seconds, *, submitted=None, listed_after=0.0):
        self.world, self.seconds, self.listed_after = world, seconds, listed_after
        self.submitted = submitted or {}
        self.odd = {}
        self.failed = set()
        self.rows = lambda rows: rows
        self.page = None  # a reply to every page
        self.polls = Counter()
        self.pages = 0

    def begin(self, request_id):
        return self.submitted.get(request_id, NOON)

    def state(self, request_id):
        if self.world.clock() < self.begin(request_id) + self.seconds[request_id]:
            return "PROCESSING"
        return "FAILED" if request_id in self.failed else "COMPLETED"

    def __call__(self, request):
        if request.params is not None:
            self.pages += 1
            return self.page or self.history(request.params)
        request_id = request.url.split("/")[-2]
        self.polls[request_id] += 1
        if request_id in self.odd:
            return self.odd[request_id]
        state = self.state(request_id)
        metrics = {"total_time": self.seconds[request_id]} if state == "COMPLETED" else {}
        return status(state, metrics=metrics)

    def history(self, query):
        now = self.world.clock()
        listed = [each for each in self.seconds if self.begin(each) + self.listed_after <= now]
        listed.sort(key=self.begin, reverse=True)
        rows = self.rows([self.row(each) for each in listed])
        size = int(query["per_page"])
        start = (int(query["page"]) - 1) * size
        return response(200, {"data": rows[start : start + size]})

    def row(self, request_id):
        state = self.state(request_id)
        return {
            "request_id": request_id,
            "model_name": MODEL,
            "model_status": state if state != "PROCESSING" else "PENDING",
            "model_created": datetime.fromtimestamp(self.begin(request_id), UTC).isoformat(),
            "generation_url": f"https://images.segmind.com/{request_id}.png" if state == "COMPLETED" else None,
        }


def wave_of(world, service, timeout=600.0, **options):
    jobs = [WaveJob(each, service.begin(each), service.begin(each) + timeout) for each in service.seconds]
    return Wave(world.api, MODEL, jobs, **options)


def watched(seconds, *, watchers=16, world=None, timeout=600.0, prepare=lambda service: None, **options):
    """Watch a wave to its end; ``seconds`` has job times. Return the wave, the service and the world."""
    world = world or World()
    if not isinstance(seconds, dict):
        seconds = {f"r{number}": each for number, each in enumerate(seconds)}
    service = WaveService(world, seconds)
    prepare(service)
    wave = wave_of(world, service, timeout, **options)
    world.run_all([wave.watcher() for _ in range(watchers)], service)
    return wave, service, world


def refused_for(world, seconds):
    """Return a reply that refuses for the first seconds after noon, or ``None`` later."""
    return error(429, retry_after="1") if world.clock() < NOON + seconds else None


def typical(count=200, seed=7):
    dice = random.Random(seed)
    return [12 * dice.lognormvariate(0, 0.15) for _ in range(count)]


def ids(count):
    return {f"r{number}" for number in range(count)}
