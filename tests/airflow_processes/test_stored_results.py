"""What the runs leave in S3 and return to Airflow."""

from __future__ import annotations

import hashlib
import json

import pytest

from demo.s3_server import split
from tests.photos import subject_pixels

from .conftest import BUCKET

ERASED = ["waiting", "inline", "uri_connection", "database_connection", "one", "any_model"]


@pytest.mark.parametrize("name", ERASED)
def test_the_result_is_in_s3_without_the_subject(world, runs, name):
    assert runs[name].succeeded()
    facts = runs[name].facts()
    stored = world.s3.read(facts["uri"])
    assert subject_pixels(stored["Body"]) == 0
    assert stored["ContentType"] == facts["content_type"] == "image/png"
    assert (len(stored["Body"]), hashlib.sha256(stored["Body"]).hexdigest()) == (facts["size"], facts["sha256"])
    assert (facts["width"], facts["height"]) == (120, 90)


def test_the_object_has_the_request_id_model_and_source_as_metadata(world, runs):
    assert runs["one"].succeeded()
    facts = runs["one"].facts()
    metadata = world.s3.read(facts["uri"])["Metadata"]
    assert (metadata["segmind-request-id"], metadata["segmind-model"], metadata["segmind-source"]) == (
        facts["request_id"],
        "bria-erase-foreground",
        facts["image"],
    )


def test_a_destination_that_is_a_key_is_used_unchanged(runs):
    assert runs["one"].succeeded()
    assert runs["one"].facts()["uri"] == "s3://photos/examples/one.png"


def test_the_task_returns_the_metrics_of_the_job(world, runs):
    assert runs["one"].succeeded()
    facts = runs["one"].facts()
    [job] = [job for job in world.emulator.jobs()["jobs"] if job["request_id"] == facts["request_id"]]
    assert facts["metrics"]["cost"] == job["cost"] > 0
    assert facts["metrics"]["inference_time"] > 0


def test_every_photo_under_a_prefix_is_processed(world, runs):
    assert runs["prefix"].succeeded()
    assert world.s3.keys("photos", "examples/erased") == [f"examples/erased/holiday-{n}.png" for n in range(3)]
    for task in runs["prefix"].tasks():
        uri = runs["prefix"].facts(task["map_index"])["uri"]
        assert subject_pixels(world.s3.read(uri)["Body"]) == 0


def test_a_batch_stores_every_photo_in_its_folder_and_a_manifest_of_them(world, runs):
    assert runs["nightly"].succeeded()
    summary = runs["nightly"].facts()
    assert (summary["total"], summary["completed"], summary["failed"]) == (3, 3, 0)
    stored = [f"examples/nightly/cups/{number}.png" for number in range(3)]
    assert world.s3.keys("photos", "examples/nightly/cups/") == stored
    rows = [json.loads(line) for line in world.s3.read(summary["manifest"])["Body"].splitlines()]
    assert [row["uri"] for row in rows] == [f"s3://photos/{key}" for key in stored]
    assert all(subject_pixels(world.s3.read(row["uri"])["Body"]) == 0 for row in rows)
    assert {world.posts(row["source"]) for row in rows} == {1}


def test_images_and_destinations_are_mapped_together(world, runs):
    assert runs["each"].succeeded()
    uris = {runs["each"].facts(task["map_index"])["uri"] for task in runs["each"].tasks()}
    assert uris == {"s3://photos/each/a.png", "s3://photos/each/b.png"}
    assert all(split(uri)[1] in world.s3.keys("photos", "each/") for uri in uris)


def test_each_image_was_submitted_once(world, runs):
    for run in runs.values():
        run.wait()
    images = [f"s3://{BUCKET}/payload-{name}.png" for name in ("a", "b")]
    for name, run in runs.items():
        results = [run.facts(task["map_index"]) for task in run.tasks()]
        if name not in {"twice", "inline"}:  # two tasks submit the image of "twice"
            images += [facts["image"] for facts in results if facts and facts.get("image")]
    assert len(images) >= 14
    assert {world.posts(image) for image in images} == {1}
    # An inline image has no address. Only one run sends any.
    posts = world.emulator.jobs()["posts_per_image"]
    assert [count for image, count in posts.items() if not image.startswith("http")] == [1]


def test_a_refused_key_fails_the_task_without_retries(world, runs):
    run = runs["refused_key"]
    assert run.wait() == "failed"
    [task] = run.tasks()
    assert (task["state"], task["try_number"], task["max_tries"]) == ("failed", 1, 2)
    assert "SegmindAuthError" in run.log()
