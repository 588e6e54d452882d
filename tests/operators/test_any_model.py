from __future__ import annotations

import base64

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


def test_s3_addresses_at_the_top_level_are_presigned(segmind, s3):
    source = s3.put("in/cup.png", photo())
    run(model="bria-erase-foreground", payload={"image": source})

    assert segmind.jobs[0].image == f"{s3.url}/{s3.bucket}/in/cup.png"
