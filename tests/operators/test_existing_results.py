"""What stands at the destination already: skipped, replaced, or never replaced."""

from __future__ import annotations

import json

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.hooks.segmind import SegmindHook
from airflow_provider_segmind.operators.bria import BriaEraseForegroundOperator
from airflow_provider_segmind.operators.segmind import SegmindRunModelOperator
from tests.operators.task import Task
from tests.photos import photo, subject_pixels


def erasing(image, destination, **options):
    options = {"poll_interval": 0.1, **options}
    return Task(lambda: BriaEraseForegroundOperator(task_id="erase", image=image, destination=destination, **options))


@pytest.fixture(params=["s3", "local"])
def folders(request, s3, tmp_path):
    """Return a function that puts a photo, and the prefix of the results, in S3 and on the worker's disk."""

    class Folders:
        results = f"s3://{s3.bucket}/{request.node.name}/out/" if request.param == "s3" else f"{tmp_path}/out/"

        def put(self, name, content):
            if request.param == "s3":
                return s3.put(f"{request.node.name}/{name}", content)
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            return str(path)

    return Folders()


def test_skip_pays_nothing_for_an_image_whose_result_is_there(segmind, folders):
    image = folders.put("cup.png", photo())
    first = erasing(image, folders.results, if_exists="skip").run()
    again = erasing(image, folders.results, if_exists="skip").run()

    assert len(segmind.jobs) == 1
    unchanged = first.keys() - {"output_url", "output_urls", "metrics"}
    assert {name: again[name] for name in unchanged} == {name: first[name] for name in unchanged}


def test_skip_submits_a_photo_that_was_replaced(segmind, folders):
    image = folders.put("cup.png", photo(1))
    erasing(image, folders.results, if_exists="skip").run()
    folders.put("cup.png", photo(2))
    erasing(image, folders.results, if_exists="skip").run()

    assert len(segmind.jobs) == 2


def test_skip_submits_an_image_whose_flags_have_changed(segmind, folders):
    image = folders.put("cup.png", photo())
    erasing(image, folders.results, if_exists="skip").run()
    erasing(image, folders.results, if_exists="skip", preserve_alpha=False).run()

    assert len(segmind.jobs) == 2


def test_skip_at_a_full_name_finds_the_result(segmind, folders):
    image = folders.put("cup.png", photo())
    for _ in range(2):
        erasing(image, f"{folders.results}first.png", if_exists="skip").run()

    assert len(segmind.jobs) == 1


def test_overwrite_replaces_the_result_of_the_same_source(segmind, folders):
    image = folders.put("cup.png", photo())
    first = erasing(image, folders.results).run()
    second = erasing(image, folders.results).run()

    assert first["uri"] == second["uri"]
    assert first["request_id"] != second["request_id"]


@pytest.mark.parametrize("if_exists", ["overwrite", "skip"])
def test_a_name_at_a_prefix_that_holds_another_images_result_is_refused_before_the_post(segmind, folders, if_exists):
    erasing(folders.put("a/front.png", photo(1)), folders.results).run()
    with pytest.raises((SegmindInputError, AirflowFailException), match=r"a/front\.png") as refused:
        erasing(folders.put("b/front.png", photo(2)), folders.results, if_exists=if_exists).run()

    assert "b/front.png" in str(refused.value)
    assert len(segmind.jobs) == 1


def test_a_result_that_appeared_while_the_job_ran_is_not_replaced_by_another_images(segmind, folders):
    late = erasing(folders.put("b/front.png", photo(2)), folders.results)
    deferral = late.submit()
    stored = erasing(folders.put("a/front.png", photo(1)), folders.results).run()
    with pytest.raises((SegmindInputError, AirflowFailException), match=r"a/front\.png"):
        late.resume(late.wait(deferral))

    again = erasing(folders.put("a/front.png", photo(1)), folders.results, if_exists="skip").run()
    assert again["request_id"] == stored["request_id"]


def test_addresses_that_differ_only_in_their_query_do_not_share_a_result(segmind, tmp_path):
    address = SegmindHook().upload(photo())
    erasing(f"{address}?id=1", f"{tmp_path}/").run()
    with pytest.raises((SegmindInputError, AirflowFailException)):
        erasing(f"{address}?id=2", f"{tmp_path}/").run()

    assert len(segmind.jobs) == 1


def test_an_image_whose_result_was_paid_for_is_fetched_although_the_image_is_gone(segmind, tmp_path):
    image = tmp_path / "cup.png"
    image.write_bytes(photo())
    task = erasing(str(image), f"{tmp_path}/out/cup.png")
    task.submit()
    image.unlink()
    task.run()

    assert len(segmind.jobs) == 1
    assert subject_pixels((tmp_path / "out" / "cup.png").read_bytes()) == 0


def test_a_photo_that_was_replaced_between_two_tries_is_a_new_job(segmind, tmp_path, caplog):
    image = tmp_path / "cup.png"
    image.write_bytes(photo(1))
    task = erasing(str(image), f"{tmp_path}/out/cup.png")
    task.submit()
    image.write_bytes(photo(2))
    task.run()

    assert len(segmind.jobs) == 2
    assert "image has been replaced" in caplog.text


def test_a_result_says_what_it_was_made_of(segmind, s3):
    image = s3.put("in/cup.png", photo())
    facts = erasing(image, f"s3://{s3.bucket}/made/").run()
    metadata = s3.get("made/cup.png")["Metadata"]

    assert metadata["segmind-source"] == image
    assert metadata["segmind-request-id"] == facts["request_id"]
    assert segmind.key not in json.dumps(metadata)


def test_any_model_skips_a_result_of_the_same_payload(segmind, s3):
    payload = {"image": s3.put("in/cup.png", photo(1))}

    def run():
        operator = {"task_id": "run", "model": "bria-erase-foreground", "payload": payload, "poll_interval": 0.1}
        destination = f"s3://{s3.bucket}/any/cup.png"
        return Task(lambda: SegmindRunModelOperator(**operator, destination=destination, if_exists="skip")).run()

    assert run()["request_id"] == run()["request_id"]
    s3.put("in/cup.png", photo(2))
    run()

    assert len(segmind.jobs) == 2


@pytest.mark.parametrize("options", [{"destination": None}, {"destination": "s3://bucket/prefix/"}])
def test_any_model_refuses_a_skip_that_could_find_nothing(options):
    with pytest.raises(SegmindInputError, match="if_exists='skip'"):
        SegmindRunModelOperator(task_id="run", model="m", payload={"prompt": "x"}, if_exists="skip", **options)
