"""The hook's methods against the emulator, through real HTTP."""

from __future__ import annotations

import asyncio
import base64
import gc
import inspect
import io
import subprocess
import sys
import time
from datetime import timedelta

import httpx
import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_segmind.api.models import JobState, OutcomeStatus, SegmindJob, SegmindOutput, SegmindResult
from airflow_provider_segmind.exceptions import (
    SegmindAuthError,
    SegmindError,
    SegmindInputError,
    SegmindJobExpiredError,
    SegmindJobFailedError,
    SegmindJobTimeoutError,
    SegmindModelNotFoundError,
    SegmindRateLimitError,
    SegmindServiceError,
)
from airflow_provider_segmind.hooks.segmind import SegmindHook
from tests.photos import photo, subject_pixels

MODEL = "bria-erase-foreground"
PAYLOAD = {"image": base64.b64encode(photo()).decode()}
TWINS = ["asubmit", "aget_status", "aget_result", "arun", "aget_credits", "awatch"]


class Hook:
    """A hook, called by its asynchronous twins where it has them."""

    def __init__(self, hook: SegmindHook) -> None:
        self.hook = hook

    def __getattr__(self, name):
        twin = getattr(self.hook, f"a{name}", None)
        if twin is None:
            return getattr(self.hook, name)
        return lambda *args, **kwargs: asyncio.run(twin(*args, **kwargs))


@pytest.fixture
def sync_hook(segmind):
    hook = SegmindHook()
    yield hook
    hook.close()


@pytest.fixture(params=["sync", "async"])
def hook(request, sync_hook):
    return sync_hook if request.param == "sync" else Hook(sync_hook)


def test_a_job_goes_from_submit_to_a_file(hook, tmp_path):
    before = time.time()
    job = hook.submit(MODEL, PAYLOAD)
    result = hook.wait_for_job(job.request_id, timeout=30)
    file = hook.download(result, tmp_path / "out.png", image=True)

    assert (job.model, before <= job.submitted_at <= time.time()) == (MODEL, True)
    assert (result.status, result.output_url) == (JobState.COMPLETED, result.outputs[0].url)
    assert result.metrics.inference_time > 0
    assert subject_pixels((tmp_path / "out.png").read_bytes()) == 0
    assert (file.content_type, file.width, file.height) == ("image/png", 120, 90)
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]


def test_run_submits_a_job_and_returns_its_result(hook):
    assert hook.run(MODEL, PAYLOAD, timeout=30).outputs


def test_a_job_that_is_still_running_has_a_state_and_no_outputs(hook, segmind):
    segmind.faults.add("job_takes", seconds=60.0)
    job = hook.submit(MODEL, PAYLOAD)

    assert hook.get_status(job.request_id).state in (JobState.QUEUED, JobState.PROCESSING)
    assert hook.get_result(job.request_id).outputs == ()


def test_a_failed_job_is_a_state_for_get_status_and_an_error_for_get_result_and_wait_for_job(hook, segmind):
    segmind.faults.add("job_fails", text="CUDA error")
    job = hook.submit(MODEL, PAYLOAD)
    with pytest.raises(SegmindJobFailedError) as failure:
        hook.wait_for_job(job.request_id, timeout=30)
    status = hook.get_status(job.request_id)

    assert (failure.value.detail, failure.value.request_id) == ("CUDA error", job.request_id)
    assert (status.state, status.error) == (JobState.FAILED, "CUDA error")
    with pytest.raises(SegmindJobFailedError):
        hook.get_result(job.request_id)


def test_the_error_about_a_timeout_has_the_request_id(hook, segmind):
    segmind.faults.add("job_takes", seconds=60.0)
    with pytest.raises(SegmindJobTimeoutError) as timeout:
        hook.run(MODEL, PAYLOAD, timeout=0.3)

    assert timeout.value.request_id == segmind.jobs[0].request_id


def test_the_v1_api_returns_the_file_itself(sync_hook):
    result = sync_hook.run_sync(MODEL, PAYLOAD)

    assert subject_pixels(result.content) == 0
    assert (result.content_type, bool(result.request_id), result.metrics.cost > 0) == ("image/png", True, True)


def test_the_credits_are_a_number_of_dollars(hook):
    assert hook.get_credits() > 0


def test_an_upload_returns_the_files_url(sync_hook, segmind):
    assert sync_hook.upload(photo()).startswith(segmind.url)


def test_a_submitted_request_is_found_in_the_history_by_its_payload_and_by_its_id(sync_hook):
    since = time.time()
    job = sync_hook.submit(MODEL, PAYLOAD)

    assert sync_hook.find_request(MODEL, PAYLOAD, since=since) == job.request_id
    record = sync_hook.get_record(job.request_id)
    assert (record.request_id, record.model) == (job.request_id, MODEL)
    assert sync_hook.get_record("0" * 32) is None


def test_watch_returns_how_a_job_ended(hook):
    job = hook.submit(MODEL, PAYLOAD)
    outcome = hook.watch(job, deadline=time.time() + 30)

    assert (outcome.status, outcome.request_id) == (OutcomeStatus.COMPLETED, job.request_id)


def test_a_request_id_that_segmind_does_not_know_has_expired(hook):
    with pytest.raises(SegmindJobExpiredError):
        hook.get_status("0" * 32)


def test_the_error_about_an_unknown_model_names_it(hook):
    with pytest.raises(SegmindModelNotFoundError, match="no-such-model"):
        hook.submit("no-such-model", {})


def test_the_error_about_the_rate_limit_says_when_it_resets(hook, segmind):
    segmind.faults.add("rate_limited", on="submit", seconds=30.0)
    with pytest.raises(SegmindRateLimitError) as limited:
        hook.submit(MODEL, PAYLOAD)

    assert 25 < limited.value.reset_at - time.time() <= 32


@pytest.mark.parametrize("timeout", [0, -1, "10", True, float("nan"), float("inf"), None])
def test_an_invalid_timeout_is_refused(hook, timeout):
    with pytest.raises(SegmindInputError, match="timeout"):
        hook.run(MODEL, PAYLOAD, timeout=timeout)


def test_a_timeout_may_be_a_timedelta(hook):
    assert hook.run(MODEL, PAYLOAD, timeout=timedelta(seconds=30)).outputs


@pytest.mark.parametrize("model", ["", "../x", "a/b", "a b", "a?b", "..", None, 7])
def test_a_model_that_cannot_be_part_of_a_path_is_refused(hook, segmind, model):
    with pytest.raises(SegmindInputError, match="model"):
        hook.submit(model, PAYLOAD)

    assert not segmind.requests.log


@pytest.mark.parametrize("request_id", ["", "../x", "a/b", "x?y", None])
def test_a_request_id_that_cannot_be_part_of_a_path_is_refused(hook, segmind, request_id):
    with pytest.raises(SegmindInputError, match="request"):
        hook.get_status(request_id)

    assert not segmind.requests.log


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda hook, _: hook.find_request(MODEL, None, since=time.time()), "payload"),
        (lambda hook, _: hook.find_request(MODEL, PAYLOAD, since=None), "since"),
        (lambda hook, _: hook.find_request(MODEL, PAYLOAD, since=float("nan")), "since"),
        (lambda hook, _: hook.find_request(MODEL, PAYLOAD, since=-1), "since"),
        (lambda hook, _: hook.find_request(MODEL, PAYLOAD, since=time.time() * 1000), "since"),
        (lambda hook, _: hook.watch(SegmindJob("a", MODEL, 0.0), deadline=float("inf")), "deadline"),
        (lambda hook, _: hook.watch(SegmindJob("a", MODEL, 0.0), deadline=0, poll_interval=0), "poll_interval"),
        (lambda hook, _: hook.upload(None), "path_or_bytes"),
        (lambda hook, _: hook.download(None, io.BytesIO()), "Invalid result None"),
        (lambda hook, result: hook.download(result, None), "Invalid target None"),
        (lambda hook, result: hook.download(result, 7), "Invalid target 7"),
        (lambda hook, result: hook.download(result, io.StringIO()), "Invalid target"),
        (lambda hook, result: hook.download(result, io.BufferedReader(io.BytesIO())), "Invalid target"),
    ],
)
def test_the_error_about_an_invalid_argument_names_it_and_nothing_is_sent(hook, segmind, call, said):
    result = SegmindResult("a", JobState.COMPLETED, (SegmindOutput(url=f"{segmind.url}/x.png"),))
    with pytest.raises(SegmindInputError, match=said):
        call(hook, result)

    assert not segmind.requests.log


def test_a_server_that_cannot_be_reached_is_a_service_error(hook, segmind, quick_retries):
    segmind.stop()
    with pytest.raises(SegmindServiceError, match=r"127\.0\.0\.1"):
        hook.submit(MODEL, PAYLOAD)


def test_a_download_into_an_open_file_replaces_what_was_there(hook):
    result = hook.run(MODEL, PAYLOAD, timeout=30)
    target = io.BytesIO(b"what was there before, and longer than any picture" * 10_000)
    file = hook.download(result, target)

    assert len(target.getvalue()) == file.size
    assert subject_pixels(target.getvalue()) == 0


def test_the_connection_test_names_the_host_and_the_credits_and_runs_no_model(sync_hook, segmind):
    good, said = sync_hook.test_connection()

    assert good
    assert segmind.url in said
    assert "USD" in said
    assert len(segmind.jobs) == 0


def test_the_connection_test_accepts_an_account_without_a_balance_record(sync_hook, segmind):
    segmind.faults.add("raw", on="credits", status=404, body='{"error": "No credits found for the user"}', times=None)

    good, said = sync_hook.test_connection()

    assert good
    assert said == f"Connected to {segmind.url}: the API key is valid; the account has no balance record."


def test_the_connection_test_says_where_to_correct_a_key_that_was_refused(segmind, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_SEGMIND_DEFAULT", segmind.connection.replace(segmind.key, "SG_ffffffffffffffff"))
    hook = SegmindHook()
    good, said = hook.test_connection()
    with pytest.raises(SegmindAuthError):
        hook.submit(MODEL, PAYLOAD)
    hook.close()

    assert not good
    assert "password" in said
    assert "SG_ffff" not in said


def test_a_connection_that_does_not_exist_is_airflows_own_error():
    with pytest.raises(Exception, match="segmind_missing"):
        SegmindHook("segmind_missing").get_conn()


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        (None, "segmind_default"),
        ('{"conn_type": "segmind"}', "password is empty"),
        ('{"conn_type": "segmind", "password": "SG_0123456789abcdef", "extra": {"verify": "/no/such.pem"}}', "verify"),
    ],
)
def test_the_connection_test_reports_an_invalid_connection_without_raising(monkeypatch, connection, said):
    if connection is not None:
        monkeypatch.setenv("AIRFLOW_CONN_SEGMIND_DEFAULT", connection)
    good, told = SegmindHook().test_connection()

    assert (good, said in told) == (False, True)
    assert "SG_0" not in told


def test_the_connection_test_names_a_host_that_cannot_be_reached(segmind, monkeypatch, quick_retries):
    monkeypatch.setenv("AIRFLOW_CONN_SEGMIND_DEFAULT", segmind.connection)
    segmind.stop()
    hook = SegmindHook()
    good, said = hook.test_connection()
    hook.close()

    assert not good
    assert said.startswith(f"{segmind.url}: ")
    assert "ConnectError" in said


def test_every_public_method_documents_its_parameters_and_errors():
    for name, method in vars(SegmindHook).items():
        exempt = ("_", "get_conn", "get_ui")
        internal = ("asession", "asettings", "run_operation", "arun_operation")
        if name.startswith(exempt) or not inspect.isfunction(method) or name in ("close", *internal, *TWINS):
            continue
        doc = inspect.getdoc(method)
        parameters = list(inspect.signature(method).parameters)[1:]
        assert [each for each in parameters if f":param {each}:" not in doc] == [], name
        assert ":raises " in doc or name == "test_connection", name


@pytest.mark.parametrize("name", TWINS)
def test_an_asynchronous_twin_takes_the_same_arguments(name):
    twin, method = getattr(SegmindHook, name), getattr(SegmindHook, name[1:])

    assert inspect.iscoroutinefunction(twin)
    assert inspect.signature(twin) == inspect.signature(method)


def test_get_conn_returns_a_client_for_the_api_that_has_the_key(sync_hook, segmind):
    client = sync_hook.get_conn()

    assert isinstance(client, httpx.Client)
    assert sync_hook.get_conn() is client
    assert client.get("/v1/get-user-credits").status_code == 200
    assert segmind.requests.log[-1].has_key


def test_the_client_of_get_conn_outlives_the_hook(segmind):
    client = SegmindHook().get_conn()
    gc.collect()

    assert client.get("/v1/get-user-credits").status_code == 200
    client.close()


def test_a_client_that_nobody_holds_leaves_no_open_socket(segmind):
    client = SegmindHook().get_conn()
    client.get("/v1/get-user-credits")
    del client
    gc.collect()  # an open socket would be a ResourceWarning, and so a failure


def test_a_closed_hook_opens_new_connections(sync_hook):
    first = sync_hook.get_conn()
    sync_hook.get_credits()
    sync_hook.close()
    sync_hook.close()

    assert first.is_closed
    assert sync_hook.get_credits() > 0
    assert sync_hook.get_conn().get("/v1/get-user-credits").status_code == 200


@pytest.fixture
def get_async_connection(monkeypatch):
    """Replace common-compat's look-up by one with the signature of common-compat 1.14."""

    def replace(look_up):
        async def get_async_connection(conn_id):
            return look_up(conn_id)

        monkeypatch.setattr("airflow.providers.common.compat.connection.get_async_connection", get_async_connection)

    return replace


def test_the_connection_is_read_asynchronously_with_the_oldest_supported_common_compat(segmind, get_async_connection):
    get_async_connection(BaseHook.get_connection)

    assert asyncio.run(SegmindHook().asettings()).base_url == segmind.url


def test_a_connection_that_the_asynchronous_look_up_does_not_find_is_read_in_a_thread(segmind, get_async_connection):
    def not_found(conn_id):
        raise AirflowNotFoundException(conn_id)

    get_async_connection(not_found)

    assert asyncio.run(SegmindHook().asettings()).base_url == segmind.url


FORKING = """
import gc, os
from airflow_provider_segmind.hooks.segmind import SegmindHook
hook = SegmindHook()
assert hook.get_credits() > 0
child = os.fork()
if child == 0:
    balance = hook.get_credits()
    hook.close()
    del hook
    gc.collect()
    os._exit(0 if balance > 0 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert hook.get_credits() > 0
"""


def test_a_hook_works_on_both_sides_of_a_fork(segmind):
    subprocess.run([sys.executable, "-c", FORKING], check=True, timeout=60)


def test_a_response_that_never_ends_is_an_error(hook, segmind, quick_retries):
    segmind.faults.add("endless", on="credits", times=None)
    with pytest.raises(SegmindError):
        hook.get_credits()
