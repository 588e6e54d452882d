from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import timedelta

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
    ObjectStoragePath,
    TaskDeferred,
)

from airflow_provider_segmind.exceptions import SegmindJobFailedError, SegmindOutputError
from airflow_provider_segmind.hooks.segmind import SegmindHook
from airflow_provider_segmind.operators.bria import BriaEraseForegroundOperator
from airflow_provider_segmind.operators.segmind import SegmindRunModelOperator
from tests.operators.task import Task
from tests.photos import photo, subject_pixels

FACTS = {
    *("request_id", "model", "status", "image", "output_url", "uri", "content_type", "size", "sha256"),
    *("width", "height", "metrics", "output_urls", "image_width", "image_height"),
}


@pytest.mark.parametrize("deferrable", [True, False])
def test_the_subject_is_gone_from_the_stored_picture(erase, destination, deferrable):
    facts = erase(deferrable=deferrable).run()

    content = destination.read_bytes()
    assert subject_pixels(photo()) > 500
    assert subject_pixels(content) == 0
    assert set(facts) == FACTS
    assert (facts["status"], facts["width"], facts["height"]) == ("COMPLETED", 120, 90)
    assert (facts["size"], facts["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert facts["uri"] == str(destination)
    assert facts["metrics"]["cost"] > 0


def test_storing_the_result_needs_no_request_to_the_api(erase, segmind):
    task = erase()
    task.before_store = segmind.requests.clear
    task.run()

    assert set(segmind.requests.counts) == {"file"}


def test_the_event_has_the_documented_keys_and_no_secret(erase, segmind):
    task = erase()
    task.run()

    (event,) = task.events
    assert event.keys() >= {"request_id", "status", "error", "metrics", "output_url"}
    said = json.dumps([task.events, task.triggers, task.store.written, task.ti.xcoms])
    assert segmind.key not in said
    assert base64.b64encode(photo()).decode()[:64] not in said


def test_the_request_id_is_known_while_the_task_waits(erase, segmind):
    task = erase()
    deferral = task.submit()

    assert isinstance(deferral, TaskDeferred)
    assert task.ti.xcoms == {"request_id": segmind.jobs[0].request_id}


@pytest.mark.parametrize("written", ["base64", "data URI", "path", "file URI", "ObjectStoragePath"])
def test_an_inline_or_local_image_arrives_as_base64(segmind, image, destination, written):
    text = base64.b64encode(photo()).decode()
    given = {
        "base64": text,
        "data URI": f"data:image/png;base64,{text}",
        "path": image,
        "file URI": f"file://{image}",
        "ObjectStoragePath": ObjectStoragePath(f"file://{image}"),
    }[written]
    Task(
        lambda: BriaEraseForegroundOperator(
            task_id="erase", image=given, destination=str(destination), poll_interval=0.1
        )
    ).run()

    assert segmind.jobs[0].image == f"sha256:{hashlib.sha256(photo()).hexdigest()}"
    assert subject_pixels(destination.read_bytes()) == 0


def test_an_image_in_s3_is_sent_presigned_and_its_result_has_metadata(segmind, s3):
    source = s3.put("in/cup é.png", photo())
    facts = Task(
        lambda: BriaEraseForegroundOperator(
            task_id="erase", image=source, destination=f"s3://{s3.bucket}/out/", poll_interval=0.1
        )
    ).run()

    expiry = re.search(r"X-Amz-Expires=(\d+)", segmind.jobs[0].source)
    assert int(expiry[1]) > 600 + 1800, "good past the deadline"
    stored = s3.get("out/cup é.png")
    assert subject_pixels(stored["Body"]) == 0
    assert stored["ContentType"] == "image/png"
    assert stored["Metadata"]["segmind-request-id"] == facts["request_id"]
    assert stored["Metadata"]["segmind-model"] == "bria-erase-foreground"
    assert stored["Metadata"]["segmind-source"].startswith("s3://")
    assert segmind.jobs[0].image.startswith(s3.url)
    assert facts["image"] == source
    assert "X-Amz" not in json.dumps(facts)


def test_without_a_destination_the_file_stays_at_segmind(erase, segmind):
    facts = erase(destination=None).run()

    assert facts["output_url"].startswith(segmind.url)
    assert [facts[name] for name in ("uri", "content_type", "size", "sha256", "width", "height")] == [None] * 6
    assert "file" not in segmind.requests.counts


def test_an_upload_goes_through_segminds_storage(erase, segmind):
    erase(image_delivery="upload").run()

    assert segmind.requests.counts["upload"] == 1
    assert segmind.jobs[0].image.startswith(segmind.url)


def test_a_photo_behind_a_url_is_fetched_by_the_worker_for_inline_delivery(erase, segmind):
    url = SegmindHook().upload(photo())
    erase(image=url, image_delivery="inline").run()

    assert segmind.jobs[0].image == f"sha256:{hashlib.sha256(photo()).hexdigest()}"
    (fetch,) = [entry for entry in segmind.requests.log if entry.method == "GET" and url.endswith(entry.path)]
    assert not fetch.has_key


@pytest.mark.parametrize("style", ["base64", "data_uri"])
def test_an_inline_result_is_asked_for_again_when_it_is_stored(erase, segmind, destination, style):
    segmind.faults.add("output_as", style=style, times=None)
    task = erase()
    facts = task.run()

    assert task.events[0]["output_url"] is None
    assert subject_pixels(destination.read_bytes()) == 0
    assert (facts["output_url"], facts["size"]) == (None, destination.stat().st_size)


@pytest.mark.parametrize("rendered", [True, "True", "true", "1"])
def test_flags_may_be_templates(erase, segmind, rendered):
    erase(preserve_alpha=rendered, visual_input_content_moderation="False").run()

    assert len(segmind.jobs) == 1


def test_a_failed_job_may_be_retried_as_a_new_one(erase, segmind, destination):
    segmind.faults.add("job_fails", text="GPU on fire")
    task = erase()
    with pytest.raises(SegmindJobFailedError, match="GPU on fire") as failure:
        task.run()
    task.run()

    assert failure.value.request_id == segmind.jobs[0].request_id
    assert len(segmind.jobs) == 2
    assert destination.exists()


@pytest.mark.parametrize(("choice", "expected"), [("fail", AirflowFailException), ("skip", AirflowSkipException)])
def test_a_moderation_block_fails_without_retries_or_skips(erase, segmind, choice, expected):
    segmind.faults.add("moderation_block")
    task = erase(on_moderation_block=choice)
    with pytest.raises(expected):
        task.run()

    assert task.store.values == {}


def test_a_result_that_is_not_an_image_never_reaches_the_destination(erase, segmind, destination, quick_retries):
    segmind.faults.add("wrong_file", times=None)
    with pytest.raises(SegmindOutputError, match=r"web page|not an image"):
        erase().run()

    assert not destination.parent.exists()


def test_every_output_is_named_and_the_first_is_stored(erase, segmind, destination, caplog):
    segmind.faults.add("output_as", style="several", times=None)
    facts = erase().run()

    first, second = facts["output_urls"]
    assert (facts["output_url"], first != second) == (first, True)
    assert destination.exists()
    assert "2 outputs" in caplog.text


def test_the_size_of_the_source_is_among_the_facts(erase):
    facts = erase().run()

    assert (facts["image_width"], facts["image_height"]) == (120, 90)


def test_a_result_with_fewer_pixels_than_its_source_is_warned_of(segmind, s3, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("airflow_provider_segmind.jobs.delivery.SMALLER", 1.1)
    operator = {"task_id": "erase", "image": s3.put("in/cup.png", photo()), "destination": f"{tmp_path}/"}
    Task(lambda: BriaEraseForegroundOperator(**operator, poll_interval=0.1)).run()

    assert "fewer pixels than its source" in caplog.text


@pytest.mark.parametrize("options", [{"timeout": timedelta(minutes=5), "poll_interval": timedelta(seconds=0.1)}])
def test_times_may_be_timedeltas(erase, segmind, options):
    task = erase(**options)
    task.run()

    (_, kwargs) = task.triggers[0]
    assert kwargs["poll_interval"] == 0.1
    assert 295 < kwargs["deadline"] - kwargs["submitted_at"] <= 300


def test_both_connection_ids_are_templated():
    assert {"segmind_conn_id", "aws_conn_id"} <= set(BriaEraseForegroundOperator.template_fields)
    BriaEraseForegroundOperator(
        task_id="erase", image="https://e/a.png", segmind_conn_id="{{ params.it }}", aws_conn_id="{{ params.it }}"
    )


def test_a_callable_in_a_template_field_is_left_to_airflow():
    def later(context, jinja_env):
        raise AssertionError("Airflow calls it, when the task runs")

    BriaEraseForegroundOperator(task_id="erase", image=later, destination=later, preserve_alpha=later)
    SegmindRunModelOperator(task_id="run", model=later, payload={"image": later})
