"""The plan of a batch: keys, labels and names of its inputs."""

from __future__ import annotations

import pytest

from airflow_provider_segmind.exceptions import SegmindCheckpointError, SegmindInputError
from airflow_provider_segmind.files.destination import Destination
from airflow_provider_segmind.files.documents import open_documents
from airflow_provider_segmind.files.listing import ListedImage
from airflow_provider_segmind.files.location import parse_location
from airflow_provider_segmind.files.naming import NameTemplate
from airflow_provider_segmind.jobs.batch_plan import (
    PLAN,
    ImageInputs,
    plan_images,
    plan_payloads,
    read_plan,
    write_plan,
)
from airflow_provider_segmind.jobs.descriptions import known_inputs

SIGNED = "https://cdn.example.com/cup.jpg?X-Amz-Signature=abc"


def planned(*images, template="{folder}/{stem}.{ext}"):
    listed = [image if isinstance(image, ListedImage) else ListedImage(image) for image in images]
    return plan_images(listed, NameTemplate(template))


def names(items):
    return [item.name.with_extension("png") if item.name else None for item in items]


def test_a_result_keeps_the_folder_below_the_listed_prefix():
    items = planned(ListedImage("s3://b/in/cups/a.jpg", "cups"), ListedImage("s3://b/in/b.jpg"))

    assert names(items) == ["cups/a.png", "b.png"]


def test_the_index_is_the_position_in_the_input():
    assert names(planned("s3://b/a.jpg", None, "s3://b/c.jpg", template="{index}")) == ["0.png", None, "2.png"]


def test_the_same_address_with_another_signature_is_the_same_input():
    first, second = planned(SIGNED, SIGNED.replace("abc", "def"))

    assert second.same_as == first.key


def test_each_line_of_an_input_that_is_listed_three_times_has_a_key_of_its_own():
    assert len({item.key for item in planned(*["s3://b/a.jpg"] * 3)}) == 3


def test_no_label_has_a_signature_or_image_data():
    items = planned(SIGNED, "iVBORw0KGgoAAAANSUhEUg" * 4000, f" {SIGNED} x")

    assert not [item.label for item in items if "abc" in item.label or len(item.label) > 120]


def test_the_label_of_an_object_in_s3_names_its_connection():
    assert planned("s3://photos_aws@bucket/a.jpg")[0].label == "s3://photos_aws@bucket/a.jpg"


def test_two_sources_with_one_name_are_refused_and_both_are_named():
    with pytest.raises(SegmindInputError, match=r"s3://b/x/cup\.jpg and s3://b/y/cup\.png"):
        planned("s3://b/x/cup.jpg", "s3://b/y/cup.png")


def test_a_payload_is_named_by_its_digest_whatever_its_position():
    payloads = [{"prompt": "a"}, {"prompt": "b"}]
    forward, backward = (plan_payloads("m", some, NameTemplate(), known_inputs) for some in (payloads, payloads[::-1]))

    assert names(forward) == names(backward)[::-1]


def test_a_payload_that_is_no_object_is_a_problem_of_its_own():
    good, bad = plan_payloads("m", [{"prompt": "a"}, "prompt"], NameTemplate(), known_inputs)

    assert (good.problem, bad.name) == (None, None)
    assert "payload" in bad.problem


def test_a_plan_is_read_back_as_it_was():
    listed = [ListedImage("s3://b/in/cups/a.jpg", "cups"), ListedImage("x", problem="line 2: not an image")]

    assert list(read_plan(write_plan(listed))) == listed


@pytest.mark.parametrize("image", [SIGNED, "data:image/png;base64,iVBORw0KGgo=", "/9j/" + "A" * 100])
def test_a_plan_with_a_signature_or_image_data_is_not_kept(image):
    assert write_plan([ListedImage(image)]) is None


@pytest.mark.parametrize("damage", [b"{", b"[1]\n", b'["s3://b/a.jpg", "", null, 4]\n', b"7\n"])
def test_a_damaged_list_of_inputs_is_an_error_that_names_it(tmp_path, damage):
    folder = parse_location("destination", f"{tmp_path}/")
    documents = open_documents(folder)
    documents.write(PLAN, damage)

    with pytest.raises(SegmindCheckpointError, match=r"inputs\.jsonl cannot be read"):
        ImageInputs(f"{tmp_path}/in/", Destination(folder, is_prefix=True), NameTemplate(), None).items(documents)
