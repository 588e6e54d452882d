"""A seed always means the same plan."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest

from chaos.draw import Sizes, draw_plan
from chaos.plan import BATCH_POINTS, SHARING_DAGS, Plan


@pytest.mark.parametrize(
    ("seed", "images", "deaths", "kills", "digest"),
    [
        (6, 300, 98, 40, "472bccfe3471fefedd308cf20339c53c7a44dda1c99ad394e97ab9eaf4491e30"),
        (7, 300, 98, 40, "da320e22f8c4463d9c04eb2f1d7678ea6956d29a2795757147fe2b86d460b8d7"),
        (6, 60, 20, 12, "11515465bfa25b5679c5b4e9ff3bc11cd988a80bc1ea25df6fc7400af1420835"),
    ],
)
def test_the_same_seed_gives_the_same_plan_in_every_version(seed, images, deaths, kills, digest):
    plan = draw_plan(seed, Sizes(images, deaths, kills))
    values = [
        plan.seed,
        [dataclasses.astuple(image) for image in plan.images],
        [dataclasses.astuple(kill) for kill in plan.kills],
    ]
    assert hashlib.sha256(json.dumps(values).encode()).hexdigest() == digest


def test_a_plan_has_as_many_images_deaths_and_kills_as_asked_for():
    plan = draw_plan(1, Sizes(images=30, deaths=20, outside=11))
    assert (len(plan.images), plan.deaths.total(), len(plan.kills)) == (30, 20, 11)


def test_only_images_whose_worker_waits_die_while_waiting():
    plan = draw_plan(1, Sizes(images=30, deaths=20))
    assert {image.route for image in plan.images if "while_waiting" in image.deaths} <= {"wait_url", "wait_inline"}


def test_a_plan_survives_its_file(tmp_path):
    plan = draw_plan(1, Sizes(images=30, deaths=20, outside=11, shared=5, shared_deaths=4, batch=3, batch_deaths=2))
    plan.write(tmp_path / "plan.json")
    assert Plan.read(tmp_path / "plan.json") == plan


def test_more_deaths_than_fit_are_refused():
    with pytest.raises(ValueError, match="100 deaths are too many for 3 images"):
        draw_plan(1, Sizes(images=3, deaths=100))


def test_a_plan_with_shared_images_deletes_one_run_of_each_dag_that_shares_them():
    plan = draw_plan(1, Sizes(shared=10, shared_deaths=12))
    assert (len(plan.shared), plan.deaths.total()) == (10, 12)
    assert {deletion.dag_id for deletion in plan.deletions} == set(SHARING_DAGS)
    assert all(0 < deletion.share < 1 for deletion in plan.deletions)


def test_a_plan_with_batches_reaches_every_point_and_deletes_a_run_of_the_second_batch():
    plan = draw_plan(1, Sizes(batch=300, batch_deaths=24, batch_kills=16))
    assert [(batch.images, len(batch.deaths), len(batch.kills)) for batch in plan.batches] == [(300, 24, 16)] * 2
    assert set(plan.batch_deaths) == set(BATCH_POINTS)
    assert [deletion.dag_id for deletion in plan.deletions] == [plan.batches[1].dag_id]
    assert plan.kill_count == 80
