"""The plan of a cluster run, and the rules by which the rate limit is divided."""

from __future__ import annotations

import pytest

from cluster.plan import CHUNKED, CHUNKS, MAPPED, PARTS, chunk_share, chunks, make_part, triggerer_share


def test_every_photo_of_the_run_belongs_to_one_dag():
    numbers = [photo.number for part in PARTS for photo in part.photos]
    assert sorted(numbers) == list(range(400))


def test_the_chunks_hold_every_photo_of_their_dag_once_and_are_equally_long():
    assert [source for chunk in chunks() for source in chunk] == [photo.source for photo in CHUNKED.photos]
    assert {len(chunk) for chunk in chunks()} == {len(CHUNKED.photos) // CHUNKS}


def test_a_part_has_a_task_for_each_photo_unless_it_says_otherwise():
    assert (make_part("dag", "folder", range(3)).tasks, make_part("dag", "folder", range(3), tasks=2).tasks) == (3, 2)


def test_two_dags_never_write_to_the_same_place():
    assert not {photo.target for photo in MAPPED.photos} & {photo.target for photo in CHUNKED.photos}


@pytest.mark.parametrize(("limit", "slots", "triggerers"), [(600, 40, 2), (50, 5, 1), (1000, 100, 8)])
def test_triggerers_at_their_shares_and_the_submits_that_follow_from_them_are_within_the_limit(
    limit, slots, triggerers
):
    requests_of_triggerers = triggerer_share(limit, slots, triggerers) * triggerers
    submits = slots + requests_of_triggerers / 2  # an image costs a triggerer two requests or more
    assert requests_of_triggerers + submits == pytest.approx(limit)


@pytest.mark.parametrize(("limit", "running"), [(600, 4), (50, 1)])
def test_batches_at_their_shares_leave_one_share_of_the_limit_over(limit, running):
    share = chunk_share(limit, running)
    assert share * running == pytest.approx(limit - share)
