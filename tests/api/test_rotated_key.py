"""A 401: the connection is looked up once more, and a request that was refused goes out again with another key."""

from __future__ import annotations

import pytest

from airflow_provider_segmind.api.gateway import submit
from airflow_provider_segmind.api.history import get_record
from airflow_provider_segmind.api.polling import get_status, watch
from airflow_provider_segmind.api.rate_limit import RateLimiter
from airflow_provider_segmind.exceptions import SegmindAuthError

from .world import ID, MODEL, NOON, World, error, queued, result, status

REFUSED = error(401, "invalid_api_key")


def ask(world):
    return get_status(world.api, ID)


def post(world):
    return submit(world.api, MODEL, {})


@pytest.mark.parametrize(("operation", "reply"), [(ask, status("PROCESSING")), (post, queued())])
def test_a_request_is_sent_again_if_the_key_is_another_one(world, operation, reply):
    world.key_is_new = True
    world.run(operation(world), [REFUSED, reply])

    assert (len(world.requests), world.look_ups, world.pauses) == (2, 1, [])


@pytest.mark.parametrize("operation", [ask, post])
@pytest.mark.parametrize(("key_is_new", "requests"), [(False, 1), (True, 2)])
def test_a_401_to_the_key_that_the_connection_has_now_is_an_error(world, operation, key_is_new, requests):
    world.key_is_new = key_is_new
    with pytest.raises(SegmindAuthError):
        world.run(operation(world), [REFUSED] * 3)

    assert (len(world.requests), world.look_ups) == (requests, 1)


@pytest.mark.parametrize("operation", [ask, post])
def test_a_403_does_not_look_the_connection_up(world, operation):
    world.key_is_new = True
    with pytest.raises(SegmindAuthError):
        world.run(operation(world), [error(403)])

    assert world.look_ups == 0


def test_the_history_is_asked_again_with_a_new_key_too(world):
    world.key_is_new = True
    world.run(get_record(world.api, ID), lambda _: REFUSED if world.look_ups == 0 else error(404))

    assert world.look_ups == 1


def test_a_request_with_a_new_key_waits_for_a_slot_of_its_own():
    world = World(limiter=RateLimiter(0.5))
    world.key_is_new = True
    world.run(watch(world.api, ID, MODEL, submitted_at=NOON, deadline=NOON + 900), [REFUSED, status("FAILED")])

    assert world.times[1] - world.times[0] == pytest.approx(120)


def test_what_must_happen_before_each_post_happens_before_the_second_too(world):
    written = []
    world.key_is_new = True
    world.run(submit(world.api, MODEL, {}, before=lambda: written.append(world.clock())), [REFUSED, queued()])

    assert len(written) == 2


def test_a_wait_goes_on_with_a_new_key(world):
    world.key_is_new = True
    outcome = world.run(
        watch(world.api, ID, MODEL, submitted_at=NOON, deadline=NOON + 600), [REFUSED, status("COMPLETED"), result()]
    )

    assert outcome.status == "COMPLETED"
