"""What tests of the rate limiter share: requests, tickets and how full a minute was."""

from __future__ import annotations

from airflow_provider_segmind.api.gateway import submit
from airflow_provider_segmind.api.polling import get_status
from airflow_provider_segmind.api.rate_limit import WINDOW, RateLimiter

from .world import MODEL, NOON, queued, status


def fullest_window(times):
    return max(sum(start <= at < start + WINDOW for at in times) for start in times)


def poll(world, request_id="r", **options):
    yield from get_status(world.api, request_id, until=NOON + 10**6, **options)


def patient_submit(world):
    yield from submit(world.api, MODEL, {}, patience=10**6)


def take(limiter, at=NOON, **options):
    """Take a slot without waiting, as the only one who asks; return whether there was one."""
    ticket = limiter.ticket()
    granted = limiter.take(ticket, at, **options) is None
    limiter.leave(ticket)
    return granted


def waiting(limiter, at=NOON, *, submit=False):
    """Return a ticket that stands in the queue, and the moment at which it has to ask again."""
    ticket = limiter.ticket(submit=submit)
    moment = limiter.take(ticket, at)
    assert moment is not None
    return ticket, moment


def estimate(limiter, at=NOON):
    """Return the slot that a new poll would get, without waiting for it."""
    return limiter.take(limiter.ticket(), at, latest=at)


def keep_asking(limiter, ticket, moment, until):
    """Ask again whenever the limiter says so, and return the first such moment that is not before another."""
    while moment < until:
        moment = limiter.take(ticket, moment)
    return moment


def limiter_without_a_free_slot(limit=1):
    """Return a limiter whose slots were all granted at noon."""
    limiter = RateLimiter(limit)
    assert all(take(limiter) for _ in range(limit))
    return limiter


def responses(request):
    return queued() if request.method == "POST" else status("PROCESSING")
