"""What a job's destination holds already, looked at before anything is submitted."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from airflow_provider_segmind.exceptions import SegmindInputError
from airflow_provider_segmind.files.destination import parse_destination
from airflow_provider_segmind.files.naming import NameTemplate
from airflow_provider_segmind.files.source import ImageFacts
from airflow_provider_segmind.jobs.acquire import Submission
from airflow_provider_segmind.jobs.delivery import Delivery, JobDescription, content_digest
from tests.files.storing import provenance, put
from tests.jobs.checkpoints import BODY, DIGEST, MODEL, never
from tests.s3_server import aws_connection


@pytest.fixture
def forbidding_s3(monkeypatch):
    """Point ``aws_default`` to an S3 that answers every look at an object with 403."""

    class Forbidding(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(403)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Forbidding)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(f"http://127.0.0.1:{server.server_port}"))
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def already_made(if_exists, destination=None):
    description = JobDescription(
        MODEL,
        BODY,
        never,
        lambda: ImageFacts("", None, None),
        destination=destination or parse_destination("s3://bucket/cup.png"),
        if_exists=if_exists,
        aws_conn_id="aws_default",
    )
    return Delivery(description, None).already_made(Submission(MODEL, DIGEST, never))


def test_skip_fails_where_s3_does_not_say_whether_the_result_is_there(forbidding_s3):
    with pytest.raises(SegmindInputError, match="if_exists='skip' could pay for it again"):
        already_made("skip")


def test_overwrite_does_not_look_at_the_object(forbidding_s3):
    assert already_made("overwrite") is None


@pytest.mark.parametrize(("existing", "is_found"), [(None, True), ({"run-3.png"}, True), (set(), False)])
def test_a_result_of_a_run_without_an_image_is_found_at_the_name_of_a_template(tmp_path, existing, is_found):
    name = NameTemplate("run-{index}").name(folder="", stem="", index=3)
    put(f"{tmp_path}/run-3.png", of=provenance(input_digest=content_digest(DIGEST, None)))
    found = already_made("skip", parse_destination(f"{tmp_path}/").named(name, existing))
    assert (found is not None) == is_found


def test_a_result_that_is_named_by_its_request_is_not_looked_for(tmp_path):
    assert already_made("skip", parse_destination(f"{tmp_path}/")) is None
