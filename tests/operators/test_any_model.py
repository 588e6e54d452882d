from __future__ import annotations

import base64
from itertools import count

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_segmind.exceptions import SegmindInputError, SegmindOutputError
from airflow_provider_segmind.hooks.segmind import SegmindHook
from airflow_provider_segmind.operators.segmind import SegmindRunModelOperator
from tests.operators.task import Task
from tests.photos import photo, subject_pixels


def run(**options):
    return Task(lambda: SegmindRunModelOperator(task_id="run", poll_interval=0.1, **options)).run()


def test_any_model_is_sent_its_payload_as_it_is_and_returns_the_facts(segmind, tmp_path):
    payload = {"image": base64.b64encode(photo()).decode(), "preserve_alpha": False}
    facts = run(model="bria-erase-foreground", payload=payload, destination=f"{tmp_path}/")

    assert "image" not in facts
    assert facts["uri"] == str(tmp_path / f"{facts['request_id']}.png")
    assert subject_pixels((tmp_path / f"{facts['request_id']}.png").read_bytes()) == 0


def test_an_s3_address_in_a_payload_is_presigned(segmind, s3):
    source = s3.put("in/cup.png", photo())
    run(model="bria-erase-foreground", payload={"image": source})

    assert segmind.jobs[0].image == f"{s3.url}/{s3.bucket}/in/cup.png"


def test_s3_addresses_anywhere_in_a_payload_are_presigned(segmind, s3):
    address = s3.put("in/cup.png", photo())
    payload = {"image": address, "image_urls": [address], "layers": [{"mask": address, "note": "s3:// is a scheme"}]}
    run(model="bria-erase-foreground", payload=payload)

    posted = SegmindHook().get_record(segmind.jobs[0].request_id).request_body
    signed = [posted["image"], posted["image_urls"][0], posted["layers"][0]["mask"]]
    assert all(url.startswith(f"{s3.url}/{s3.bucket}/in/cup.png?") for url in signed)
    assert posted["layers"][0]["note"] == "s3:// is a scheme"


def test_a_missing_s3_object_deep_in_a_payload_is_named_and_nothing_is_submitted(segmind, s3):
    payload = {"image_urls": [f"s3://{s3.bucket}/missing.png"]}
    with pytest.raises(AirflowFailException, match=r"payload\['image_urls'\]\[0\].*missing\.png"):
        run(model="bria-erase-foreground", payload=payload)

    assert "submit" not in segmind.requests.counts


def test_an_address_with_a_new_signature_is_the_same_input(segmind, s3, tmp_path):
    signatures = count()
    address = f"{s3.url}/{s3.bucket}/in/cup.png"
    s3.put("in/cup.png", photo())

    def make():
        payload = {"image": f"{address}?X-Amz-Signature={next(signatures)}"}
        return SegmindRunModelOperator(
            task_id="run", model="bria-erase-foreground", payload=payload, destination=f"{tmp_path}/", poll_interval=0.1
        )

    task = Task(make)
    task.submit()
    task.run()

    assert next(signatures) > 2
    assert len(segmind.jobs) == 1


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_web_page_in_place_of_a_file_is_not_stored(segmind, tmp_path, quick_retries, deferrable):
    segmind.faults.add("wrong_file", times=None)
    payload = {"image": base64.b64encode(photo()).decode()}
    with pytest.raises(SegmindOutputError, match=r"web page|not image/png"):
        run(model="bria-erase-foreground", payload=payload, destination=f"{tmp_path}/", deferrable=deferrable)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["text_as_png", "text"])
def test_a_result_that_is_declared_an_image_must_be_one(segmind, tmp_path, quick_retries, content):
    segmind.faults.add("wrong_file", times=None, content=content)
    payload = {"image": base64.b64encode(photo()).decode()}
    with pytest.raises(SegmindOutputError, match="not image/png"):
        run(model="bria-erase-foreground", payload=payload, destination=f"{tmp_path}/")


def test_a_result_without_a_public_address_can_be_stored_after_a_destination_is_given(segmind, tmp_path):
    segmind.faults.add("output_as", times=None)
    segmind.faults.add("foreign_url", on="record", times=None, url="https://decoy.example/a.png")
    payload = {"image": base64.b64encode(photo()).decode()}

    def make():
        return SegmindRunModelOperator(
            task_id="run", model="bria-erase-foreground", payload=payload, poll_interval=0.1, destination=destination
        )

    task, destination = Task(make), None
    with pytest.raises(SegmindInputError, match="destination=None"):
        task.run()
    destination = f"{tmp_path}/"
    task.run()

    assert len(segmind.jobs) == 1
    assert subject_pixels(next(tmp_path.glob("*.png")).read_bytes()) == 0
