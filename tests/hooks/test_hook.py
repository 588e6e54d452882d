from __future__ import annotations

import asyncio
import base64
import inspect
import io
import time

import httpx
import pytest

from airflow_provider_segmind.api.models import JobState, SegmindJob, SegmindOutput, SegmindResult
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


class Hook:
    """The hook's methods by their common name, called in one of its two worlds."""

    def __init__(self, hook: SegmindHook, prefix: str) -> None:
        self.hook = hook
        self.prefix = prefix

    def __getattr__(self, name):
        method = getattr(self.hook, self.prefix + name)
        return (lambda *args, **kwargs: asyncio.run(method(*args, **kwargs))) if self.prefix else method


@pytest.fixture(params=["", "a"], ids=["sync", "async"])
def hook(request, segmind):
    hook = SegmindHook()
    yield Hook(hook, request.param)
    hook.close()


@pytest.fixture
def sync_hook(segmind):
    hook = SegmindHook()
    yield hook
    hook.close()


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


def test_run_is_submit_and_wait(hook):
    assert hook.run(MODEL, PAYLOAD, timeout=30).outputs


def test_a_running_job_has_a_state_and_no_outputs(hook, segmind):
    segmind.faults.add("job_takes", seconds=60.0)
    job = hook.submit(MODEL, PAYLOAD)

    assert hook.get_status(job.request_id).state in (JobState.QUEUED, JobState.PROCESSING)
    assert hook.get_result(job.request_id).outputs == ()


def test_a_failed_job_is_a_state_to_get_status_and_an_error_to_the_others(hook, segmind):
    segmind.faults.add("job_fails", text="CUDA error")
    job = hook.submit(MODEL, PAYLOAD)
    with pytest.raises(SegmindJobFailedError) as failure:
        hook.wait_for_job(job.request_id, timeout=30)
    status = hook.get_status(job.request_id)

    assert (failure.value.detail, failure.value.request_id) == ("CUDA error", job.request_id)
    assert (status.state, status.error) == (JobState.FAILED, "CUDA error")
    with pytest.raises(SegmindJobFailedError):
        hook.get_result(job.request_id)


def test_a_timeout_keeps_the_request_id(hook, segmind):
    segmind.faults.add("job_takes", seconds=60.0)
    with pytest.raises(SegmindJobTimeoutError) as timeout:
        hook.run(MODEL, PAYLOAD, timeout=0.3)

    assert timeout.value.request_id == segmind.jobs[0].request_id


def test_v1_answers_with_the_file_itself(hook):
    result = hook.run_sync(MODEL, PAYLOAD)

    assert subject_pixels(result.content) == 0
    assert (result.content_type, bool(result.request_id), result.metrics.cost > 0) == ("image/png", True, True)


def test_credits_upload_and_history(hook, segmind):
    assert hook.get_credits() > 0
    assert hook.upload(photo()).startswith(segmind.url)
    since = time.time()
    job = hook.submit(MODEL, PAYLOAD)
    assert hook.find_request(MODEL, PAYLOAD, since=since) == job.request_id
    record = hook.get_record(job.request_id)
    assert (record.request_id, record.model) == (job.request_id, MODEL)
    assert hook.get_record("0" * 32) is None


def test_an_unknown_id_has_expired(hook):
    with pytest.raises(SegmindJobExpiredError):
        hook.get_status("0" * 32)


def test_an_unknown_model_is_named(hook):
    with pytest.raises(SegmindModelNotFoundError, match="no-such-model"):
        hook.submit("no-such-model", {})


def test_a_limited_submit_says_until_when(hook, segmind):
    segmind.faults.add("rate_limited", on="submit", seconds=30.0)
    with pytest.raises(SegmindRateLimitError) as limited:
        hook.submit(MODEL, PAYLOAD)

    assert 25 < limited.value.reset_at - time.time() <= 32


@pytest.mark.parametrize("timeout", [0, -1, "10", True, float("nan"), float("inf"), None])
def test_a_timeout_that_is_none_is_refused(hook, timeout):
    with pytest.raises(SegmindInputError, match="timeout="):
        hook.run(MODEL, PAYLOAD, timeout=timeout)


@pytest.mark.parametrize("model", ["", "../x", "a/b", "a b", "a?b", "..", None, 7])
def test_a_model_that_cannot_stand_in_a_path_is_refused(hook, model):
    with pytest.raises(SegmindInputError, match="model="):
        hook.submit(model, PAYLOAD)


@pytest.mark.parametrize("request_id", ["", "../x", "a/b", "x?y", None])
def test_a_request_id_that_cannot_stand_in_a_path_is_refused(hook, request_id):
    with pytest.raises(SegmindInputError, match="request_id="):
        hook.get_status(request_id)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda hook, _: hook.find_request(MODEL, None, since=time.time()), "payload=None"),
        (lambda hook, _: hook.find_request(MODEL, PAYLOAD, since=None), "since=None"),
        (lambda hook, _: hook.find_request(MODEL, PAYLOAD, since=float("nan")), "since=nan"),
        (lambda hook, _: hook.find_request(MODEL, PAYLOAD, since=-1), "since=-1"),
        (lambda hook, _: hook.find_request(MODEL, PAYLOAD, since=time.time() * 1000), "epoch seconds"),
        (lambda hook, _: hook.watch(SegmindJob("a", MODEL, 0.0), deadline=float("inf")), "deadline=inf"),
        (lambda hook, _: hook.watch(SegmindJob("a", MODEL, 0.0), deadline=0, poll_interval=0), "poll_interval=0"),
        (lambda hook, _: hook.upload(None), "upload of None"),
        (lambda hook, _: hook.download(None, io.BytesIO()), "result=None"),
        (lambda hook, result: hook.download(result, None), "target=None"),
        (lambda hook, result: hook.download(result, 7), "target=7"),
        (lambda hook, result: hook.download(result, io.StringIO()), "target="),
        (lambda hook, result: hook.download(result, io.BufferedReader(io.BytesIO())), "target="),
    ],
)
def test_an_argument_that_is_none_is_refused_with_its_name(hook, segmind, call, said):
    result = SegmindResult("a", JobState.COMPLETED, (SegmindOutput(url=f"{segmind.url}/x.png"),))
    with pytest.raises(SegmindInputError, match=said):
        call(hook, result)

    assert not segmind.requests.log


def test_a_server_that_is_away_is_an_error_of_ours(hook, segmind, quick_retries):
    segmind.stop()
    with pytest.raises(SegmindServiceError, match="nothing was sent"):
        hook.submit(MODEL, PAYLOAD)


def test_a_download_into_an_open_file(hook):
    result = hook.run(MODEL, PAYLOAD, timeout=30)
    target = io.BytesIO(b"what was there before, and longer than any picture" * 10_000)
    file = hook.download(result, target)

    assert len(target.getvalue()) == file.size
    assert subject_pixels(target.getvalue()) == 0


def test_the_connection_test_tells_the_credits_and_runs_no_model(sync_hook, segmind):
    good, said = sync_hook.test_connection()

    assert good
    assert "USD" in said
    assert len(segmind.jobs) == 0


def test_an_account_without_a_balance_record_is_connected(sync_hook, segmind):
    segmind.faults.add("raw", on="credits", status=404, body='{"error": "No credits found for the user"}', times=None)

    assert sync_hook.test_connection() == (
        True,
        "Connected to Segmind: the key is good, the account has no balance record.",
    )


def test_a_refused_key_is_told_with_what_to_do(segmind, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_SEGMIND_DEFAULT", segmind.connection.replace(segmind.key, "SG_ffffffffffffffff"))
    hook = SegmindHook()
    good, said = hook.test_connection()
    with pytest.raises(SegmindAuthError):
        hook.submit(MODEL, PAYLOAD)
    hook.close()

    assert not good
    assert "password" in said
    assert "SG_ffff" not in said


def test_a_connection_that_is_not_there_is_told_by_airflow():
    with pytest.raises(Exception, match="segmind_missing"):
        SegmindHook("segmind_missing").get_conn()


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        (None, "segmind_default"),
        ('{"conn_type": "segmind"}', "no password"),
        ('{"conn_type": "segmind", "password": "SG_0123456789abcdef", "extra": {"verify": "/no/such.pem"}}', "verify="),
    ],
)
def test_the_connection_test_tells_whatever_is_wrong(monkeypatch, connection, said):
    if connection is not None:
        monkeypatch.setenv("AIRFLOW_CONN_SEGMIND_DEFAULT", connection)
    good, told = SegmindHook().test_connection()

    assert (good, said in told) == (False, True)
    assert "SG_0" not in told


def test_every_public_method_says_what_it_takes_and_raises():
    for name, method in vars(SegmindHook).items():
        if name.startswith(("_", "get_conn", "get_ui")) or not inspect.isfunction(method) or name == "close":
            continue
        doc = inspect.getdoc(method)
        parameters = list(inspect.signature(method).parameters)[1:]
        assert [each for each in parameters if f":param {each}:" not in doc] == [], name
        assert ":raises " in doc or name in ("run_flow", "test_connection"), name


def test_each_twin_takes_the_same():
    twins = [
        name for name in vars(AsyncMethods) if f"twin of :meth:`{name[1:]}`" in (vars(AsyncMethods)[name].__doc__ or "")
    ]

    assert len(twins) == 12
    for name in twins:
        assert inspect.signature(getattr(SegmindHook, name)) == inspect.signature(getattr(SegmindHook, name[1:]))


def test_get_conn_gives_a_client_of_the_api(sync_hook, segmind):
    client = sync_hook.get_conn()

    assert isinstance(client, httpx.Client)
    assert client.get("/v1/get-user-credits").status_code == 200
    assert segmind.requests.log[-1].has_key


def test_an_answer_that_never_ends_is_cut(hook, segmind, quick_retries):
    segmind.faults.add("endless", on="credits", times=None)
    with pytest.raises(SegmindError):
        hook.get_credits()
