"""Bad input: named with its value and remedy where it can first be known, and never paid for."""

from __future__ import annotations

import base64
import json
import re

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException

from airflow_provider_segmind.exceptions import SegmindError, SegmindInputError
from airflow_provider_segmind.operators.bria import BriaEraseForegroundOperator
from airflow_provider_segmind.operators.segmind import SegmindRunModelOperator
from tests.operators.task import Task
from tests.photos import photo

URL = "https://example.com/cup.png"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image": ""}, "image"),
        ({"image": "ftp://host/cup.png"}, "ftp"),
        ({"image": "s3://bucket"}, "image"),
        ({"image": "s3://bucket/folder/"}, "image"),
        ({"image": "data:image/png;base64,####"}, "image"),
        ({"destination": "s3://bucket"}, "destination"),
        ({"destination": "https://example.com/out.png"}, "destination"),
        ({"destination": ""}, "destination"),
        ({"on_moderation_block": "ignore"}, "on_moderation_block 'ignore'"),
        ({"on_unknown_submit": "retry"}, "on_unknown_submit 'retry'"),
        ({"image_delivery": "pigeon"}, "image_delivery 'pigeon'"),
        ({"timeout": -1}, "timeout -1"),
        ({"timeout": "10 minutes"}, "timeout '10 minutes'"),
        ({"poll_interval": 0}, "poll_interval 0"),
        ({"image": None}, "image"),
        ({"image": 7}, "7"),
        ({"image": ["a.png"]}, "image"),
        ({"destination": 7}, "7"),
        ({"preserve_alpha": "perhaps"}, "preserve_alpha 'perhaps'"),
        ({"preserve_alpha": None}, "preserve_alpha None"),
        ({"visual_output_content_moderation": []}, "visual_output_content_moderation []"),
        ({"deferrable": "False"}, "deferrable 'False'"),
        ({"segmind_conn_id": None}, "segmind_conn_id None"),
        ({"aws_conn_id": 7}, "aws_conn_id 7"),
        ({"if_exists": "replace"}, "if_exists 'replace'"),
        ({"if_exists": "skip"}, "if_exists='skip'"),
        ({"s3_extra_args": {"ServerSideEncription": "AES256"}}, "ServerSideEncryption"),
        ({"image": "~nobody-of-that-name/cup.png"}, "~nobody-of-that-name"),
    ],
)
def test_a_bad_parameter_is_refused_as_the_dag_is_parsed(options, said):
    with pytest.raises(SegmindInputError) as wrong:
        BriaEraseForegroundOperator(task_id="erase", **{"image": URL, **options})

    name = next(iter(options))
    assert name in str(wrong.value)
    assert said in str(wrong.value)
    assert re.search(r"(?i)give|choose|write|check|name|use|omit", str(wrong.value)), "a fix"


@pytest.mark.parametrize("later", ["{{ params.it }}", "{% if x %}a{% endif %}"])
def test_a_template_is_not_checked_before_it_is_rendered(later):
    BriaEraseForegroundOperator(task_id="erase", image=later, destination=later, preserve_alpha=later)
    SegmindRunModelOperator(task_id="run", model=later, payload={"image": later, "deep": [{"x": later}]})


def test_another_tasks_result_is_not_checked_as_the_dag_is_parsed():
    with DAG("later", schedule=None):
        upstream = BriaEraseForegroundOperator(task_id="first", image=URL).output
        BriaEraseForegroundOperator(
            task_id="erase", image=upstream["uri"], destination=upstream, preserve_alpha=upstream
        )
        SegmindRunModelOperator(task_id="run", model="any", payload={"image": upstream["output_url"]})


def test_bad_input_of_a_mapped_task_is_not_retried():
    """It comes up outside of ``execute``, as the task is unmapped."""
    with pytest.raises(AirflowFailException, match="image"):
        BriaEraseForegroundOperator(task_id="erase", image="s3://bucket/folder/")


@pytest.mark.parametrize("payload", [None, "x", 7, {1: 2}, {"a": float("nan")}, {"a": object()}, {"a": "\ud83d"}])
def test_a_payload_that_cannot_be_sent_is_refused_as_the_dag_is_parsed(payload):
    with pytest.raises(SegmindInputError, match="Invalid payload"):
        SegmindRunModelOperator(task_id="run", model="any", payload=payload)


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize("prefix", [False, True])
def test_a_photo_is_not_replaced_by_its_own_result(erase, segmind, image, deferrable, prefix):
    destination = image.rpartition("/")[0] + "/" if prefix else image
    with pytest.raises(AirflowFailException, match="destination"):
        erase(destination=destination, deferrable=deferrable).run()

    assert "submit" not in segmind.requests.counts


def test_an_object_store_without_its_provider_is_refused_before_the_submit(erase, segmind):
    with pytest.raises(AirflowFailException, match="provider"):
        erase(destination="gs://bucket/out.png").run()

    assert "submit" not in segmind.requests.counts


@pytest.mark.parametrize("model", ["../x", "", "a/b"])
def test_an_invalid_model_is_refused_as_the_dag_is_parsed(model):
    with pytest.raises(SegmindInputError, match="Invalid model"):
        SegmindRunModelOperator(task_id="run", model=model, payload={})


@pytest.mark.parametrize(
    ("rendered", "said"),
    [
        ({"image": "None"}, "image"),
        ({"image": "  "}, "image"),
        ({"image": None}, "image"),
        ({"image": 7}, "image"),
        ({"destination": "None"}, "destination"),
        ({"preserve_alpha": "perhaps"}, "preserve_alpha 'perhaps'"),
        ({"visual_input_content_moderation": ""}, "visual_input_content_moderation"),
    ],
)
def test_a_template_that_renders_to_nothing_fails_without_retries_before_anything_is_sent(segmind, rendered, said):
    def make():
        operator = BriaEraseForegroundOperator(task_id="erase", image="{{ it }}", destination="{{ it }}")
        operator.image, operator.destination = URL, "s3://bucket/out.png"
        for name, value in rendered.items():
            setattr(operator, name, value)
        return operator

    with pytest.raises(AirflowFailException, match=said):
        Task(make).run()

    assert segmind.requests.total == 0


@pytest.mark.parametrize("payload", [None, "text", ["a"], {1: "a"}])
def test_a_rendered_payload_that_is_not_a_dict_fails_without_retries(segmind, payload):
    with pytest.raises(AirflowFailException, match="Invalid payload"):
        Task(lambda: SegmindRunModelOperator(task_id="run", model="bria-erase-foreground", payload=payload)).run()


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "folder"), (b"", "0 bytes|empty"), (b"just text, whatever its name says" * 9, "PNG|image")],
    ids=["a folder", "0 bytes", "text named .png"],
)
def test_a_local_file_that_is_not_an_image_fails_without_retries_before_the_submit(
    erase, segmind, tmp_path, content, said
):
    path = tmp_path / "thing.png"
    path.mkdir() if content is None else path.write_bytes(content)
    task = erase(image=str(path))
    with pytest.raises(AirflowFailException, match=said):
        task.run()

    assert "submit" not in segmind.requests.counts
    assert task.store.values == {}


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100


@pytest.mark.parametrize(("content", "said"), [(HEIC, "HEIC"), (b"", "empty"), (b"BM" + b"\0" * 99, "BMP")])
def test_an_s3_object_that_is_not_an_accepted_image_is_refused_before_the_submit(segmind, s3, content, said):
    image = s3.put("in/photo.jpg", content)
    with pytest.raises(AirflowFailException, match=said):
        Task(lambda: BriaEraseForegroundOperator(task_id="erase", image=image)).run()

    assert "submit" not in segmind.requests.counts


def test_an_archived_photo_is_refused_before_the_submit(segmind, s3):
    s3.client.put_object(Bucket=s3.bucket, Key="in/cup.png", Body=photo(), StorageClass="GLACIER")
    with pytest.raises(AirflowFailException, match=r"(?i)archive|glacier"):
        Task(lambda: BriaEraseForegroundOperator(task_id="erase", image=f"s3://{s3.bucket}/in/cup.png")).run()

    assert "submit" not in segmind.requests.counts


def test_an_image_that_is_missing_in_s3_fails_without_retries_before_the_submit(segmind, s3):
    with pytest.raises(AirflowFailException, match="no-such-key"):
        Task(lambda: BriaEraseForegroundOperator(task_id="erase", image=f"s3://{s3.bucket}/no-such-key.png")).run()

    assert "submit" not in segmind.requests.counts


@pytest.mark.parametrize(
    ("status", "style", "said"),
    [
        (400, "gateway", "400"),
        (403, "gateway", "403"),
        (404, "gateway", "model"),
        (405, "html", "405"),
        (406, "gateway", "406"),
        (410, "gateway", "retired"),
    ],
)
def test_a_refused_submit_fails_without_retries_after_one_request(erase, segmind, status, style, said):
    segmind.faults.add("error", status=status, style=style, times=None)
    task = erase()
    with pytest.raises(AirflowFailException, match=said):
        task.run()

    assert segmind.requests.counts["submit"] == 1
    assert task.store.values == {}


def test_a_refused_key_fails_without_retries_and_is_in_no_text(erase, segmind, monkeypatch, caplog):
    wrong = json.loads(segmind.connection) | {"password": "SG_aaaaaaaaaaaaaaaa"}
    monkeypatch.setenv("AIRFLOW_CONN_SEGMIND_DEFAULT", json.dumps(wrong))
    with pytest.raises(AirflowFailException, match="password") as refused:
        erase().run()

    assert "SG_aaaa" not in str(refused.value) + caplog.text


def test_a_connection_without_a_password_fails_without_retries(erase, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_SEGMIND_DEFAULT", json.dumps({"conn_type": "segmind"}))
    with pytest.raises(AirflowFailException, match="password is empty"):
        erase().run()


def test_base64_of_a_pdf_fails_without_retries(segmind):
    text = base64.b64encode(b"%PDF-1.7 and so on" * 40).decode()
    with pytest.raises((AirflowFailException, SegmindError), match="image"):
        Task(lambda: BriaEraseForegroundOperator(task_id="erase", image=f"data:image/png;base64,{text}")).run()

    assert len(segmind.jobs) == 0


@pytest.mark.parametrize("place", ["no such bucket", "no folder"])
def test_a_destination_that_cannot_be_written_fails_without_retries_before_the_submit(
    erase, segmind, s3, tmp_path, place
):
    (tmp_path / "file").write_text("in the way")
    destination = "s3://no-such-bucket-anywhere/out.png" if place == "no such bucket" else f"{tmp_path}/file/out.png"
    with pytest.raises(AirflowFailException, match="destination"):
        erase(destination=destination).run()

    assert "submit" not in segmind.requests.counts
