"""The hook: an Airflow connection, and the operations of Segmind's API run over it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_segmind.api import gateway, history, models, polling
from airflow_provider_segmind.api.download import download
from airflow_provider_segmind.api.models import (
    DEFAULT_TIMEOUT,
    JobOutcome,
    SegmindFile,
    SegmindJob,
    SegmindRecord,
    SegmindResult,
    SegmindStatus,
    SegmindSyncResult,
)
from airflow_provider_segmind.api.operation import ApiContext, Operation
from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindError, SegmindInputError
from airflow_provider_segmind.files.destination import write_atomically
from airflow_provider_segmind.files.formats import ResultFile
from airflow_provider_segmind.files.source import data_uri
from airflow_provider_segmind.get_provider_info import FIELD_BEHAVIOUR, FIELDS
from airflow_provider_segmind.hooks.connection import SegmindSettings
from airflow_provider_segmind.hooks.drivers import SyncDriver
from airflow_provider_segmind.hooks.session import Session, context_for, new_key, session_for
from airflow_provider_segmind.hooks.transport import open_client

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
Seconds = float | timedelta


class SegmindHook(BaseHook):
    """
    Talk to Segmind through an Airflow connection of type ``segmind``.

    The connection's password is the API key. It is sent to the connection's own hosts and nowhere else. The methods
    raise the exceptions of :mod:`airflow_provider_segmind.exceptions` and no others, except Airflow's
    ``AirflowNotFoundException`` for a connection that does not exist (or a secrets backend that is down). Each can
    raise :class:`SegmindInputError` (the connection, an argument, or a proxy or CA bundle of the environment is
    invalid; nothing was sent), :class:`SegmindAuthError` (the key was refused), :class:`SegmindRateLimitError`, and
    :class:`SegmindServiceError` (Segmind or the network is down; a GET was tried 5 times, or for a minute).

    What a trigger or sensor needs has an asynchronous twin with the prefix ``a``, which takes the same arguments.
    The shapes of responses are those of Segmind's documentation, model pages and Python client 1.3.0.

    :param segmind_conn_id: the connection's id
    """

    conn_name_attr = "segmind_conn_id"
    default_conn_name = "segmind_default"
    conn_type = "segmind"
    hook_name = "Segmind"

    def __init__(self, segmind_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.segmind_conn_id = segmind_conn_id
        self._client: httpx.Client | None = None
        self._driver: SyncDriver | None = None

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's extra fields for Airflow before 3.2; later versions read the provider info."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from flask_babel import lazy_gettext
        from wtforms import StringField

        return {
            name: StringField(lazy_gettext(label), widget=BS3TextFieldWidget(), description=description)
            for name, (label, _, description) in FIELDS.items()
        }

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the form shows its standard fields, for Airflow before 3.2."""
        return dict(FIELD_BEHAVIOUR)

    @cached_property
    def settings(self) -> SegmindSettings:
        """The connection's validated settings. The connection is read once."""
        return SegmindSettings.from_connection(self.get_connection(self.segmind_conn_id))

    async def asettings(self) -> SegmindSettings:
        """Read the connection without blocking the event loop, and return its validated settings."""
        from airflow.providers.common.compat.connection import get_async_connection
        from airflow.providers.common.compat.sdk import AirflowNotFoundException, Connection
        from asgiref.sync import sync_to_async

        connection = None
        # Before Airflow 3.3.2, which brought `aextra_dejson`, the asynchronous look-up masks secrets with a blocking
        # call to the supervisor that fails while another coroutine talks to it. A worker thread may block.
        if hasattr(Connection, "aextra_dejson"):
            # `airflow dags test` does not find the database's connections asynchronously.
            with suppress(AirflowNotFoundException):
                connection = await get_async_connection(self.segmind_conn_id)
        if connection is None:
            connection = await sync_to_async(self.get_connection)(self.segmind_conn_id)
        return SegmindSettings.from_connection(connection)

    @cached_property
    def api(self) -> ApiContext:
        """The context for the operations of the API. All hooks of the connection in this process share its limiter."""
        return context_for(self.segmind_conn_id, self.settings)

    def get_conn(self) -> httpx.Client:
        """
        Return a client that adds the base URL, and the API key for the connection's own hosts only.

        It may outlive the hook: its sockets are closed by :meth:`close`, or when nobody holds it any more.
        """
        if self._client is None:
            self._client = open_client(self.settings)
        return self._client

    def close(self) -> None:
        """Close all connections, those of :meth:`get_conn` too; a later call opens new ones."""
        for opened in (self._client, self._driver):
            if opened is not None:
                opened.close()
        self._client = self._driver = None

    def run_operation(self, operation: Operation[T]) -> T:
        """Run an operation of :mod:`airflow_provider_segmind.api` that was made with :attr:`api`."""
        if self._driver is None:
            self._driver = SyncDriver(self.settings, self._renew_key)
        return self._driver.run(operation)

    def _renew_key(self) -> str | None:
        with suppress(Exception):  # the response that refused the key is what the user has to know
            settings = SegmindSettings.from_connection(self.get_connection(self.segmind_conn_id))
            if key := new_key(self.settings, settings):
                self.settings = settings
                self.api.secrets[:] = [key]
                self._client = None  # whoever holds it can go on with it; the next one has the new key
                return key
        return None

    async def asession(self) -> Session:
        """Return the session that all users of the connection share on the running event loop: a context manager."""
        return await session_for(self.segmind_conn_id, self.asettings)

    async def arun_operation(self, start: Callable[[ApiContext], Operation[T]]) -> T:
        """Run an operation on the running event loop; ``start`` makes it, once the connection is read."""
        with await self.asession() as session:
            return await session.driver.run(start(session.api))

    def test_connection(self) -> tuple[bool, str]:
        """
        Ask for the account's credits, which runs no model and costs nothing.

        :return: whether the host answered and accepts the key, and a text that names the host; never raises
        """
        host = ""
        try:
            host = self.settings.base_url
            return True, f"Connected to {host}: {self.get_credits():g} USD of credits."
        except Exception as error:  # noqa: BLE001 - any failure is the result of the test
            said = str(error)
            if getattr(error, "status_code", None) == 404 and "credits found" in said.lower():
                return True, f"Connected to {host}: the API key is valid; the account has no balance record."
            if not isinstance(error, SegmindError):
                said = f"{type(error).__name__}: {said}"
            return False, redact(f"{host}: {said}" if host else said, limit=999)

    def submit(self, model: str, payload: Mapping[str, Any]) -> SegmindJob:
        """
        Submit a job: ``POST /v2/{model}``, which returns ``{"request_id", "status", ...}``.

        Every submit is a new job, as the API has no idempotency key. Segmind bills a job when it completes.

        :param model: the model's slug, such as ``bria-erase-foreground``
        :param payload: the model's parameters, as on its API page
        :raises SegmindRateLimitError: at once, without waiting for the reset; nothing was queued
        :raises SegmindSubmitUnknownError: the job may be queued and billed; see :meth:`find_request`
        :raises SegmindRequestError: refused; nothing was queued
        :raises SegmindServiceError: no connection, or an error of the gateway; nothing was queued
        """
        return self.run_operation(gateway.submit(self.api, model, payload))

    async def asubmit(self, model: str, payload: Mapping[str, Any]) -> SegmindJob:
        """Asynchronous twin of :meth:`submit`."""
        return await self.arun_operation(lambda api: gateway.submit(api, model, payload))

    def get_status(self, request_id: str) -> SegmindStatus:
        """
        Ask for a job's state: ``GET /v2/requests/{id}/status``. A FAILED job is a state here, not an exception.

        The response is ``{"status", "request_id", "error", "metrics"}``; a ``FAILED`` comes with HTTP 422.

        :param request_id: what :meth:`submit` returned
        :raises SegmindJobExpiredError: Segmind keeps a job's record for one hour
        """
        return self.run_operation(polling.get_status(self.api, request_id))

    async def aget_status(self, request_id: str) -> SegmindStatus:
        """Asynchronous twin of :meth:`get_status`."""
        return await self.arun_operation(lambda api: polling.get_status(api, request_id))

    def get_result(self, request_id: str) -> SegmindResult:
        """
        Ask for a job's result: ``GET /v2/requests/{id}``. It has no outputs while the job is still running.

        The response is ``{"status", "error", "images": [{"url"}], "output", "metrics"}``; ``output`` can be Base64.

        :param request_id: what :meth:`submit` returned
        :raises SegmindJobFailedError: the job FAILED; it was not billed
        :raises SegmindJobExpiredError: Segmind keeps a job's record for one hour
        """
        return self.run_operation(polling.get_result(self.api, request_id))

    async def aget_result(self, request_id: str) -> SegmindResult:
        """Asynchronous twin of :meth:`get_result`."""
        return await self.arun_operation(lambda api: polling.get_result(api, request_id))

    def wait_for_job(self, request_id: str, *, timeout: Seconds = DEFAULT_TIMEOUT) -> SegmindResult:
        """
        Wait until a job ends and return its result.

        :param request_id: what :meth:`submit` returned
        :param timeout: seconds, or a ``timedelta``, from now; at most a week; 600 seconds by default
        :raises SegmindJobTimeoutError: a last poll found the job still running; comes at most 10 seconds late
        :raises SegmindJobFailedError: the job FAILED; ``detail`` holds Segmind's text
        :raises SegmindJobExpiredError: Segmind keeps a job's record for one hour
        """
        return self.run_operation(polling.wait_for_job(self.api, request_id, timeout=models.check_timeout(timeout)))

    def run(self, model: str, payload: Mapping[str, Any], *, timeout: Seconds = DEFAULT_TIMEOUT) -> SegmindResult:
        """
        Submit a job and wait until it ends: :meth:`submit`, then :meth:`wait_for_job`.

        :param model: the model's slug
        :param payload: the model's parameters
        :param timeout: seconds, or a ``timedelta``, from the submit; at most a week; 600 seconds by default
        :raises SegmindError: what either of the two raises
        """
        return self.run_operation(polling.run(self.api, model, payload, timeout=models.check_timeout(timeout)))

    async def arun(
        self, model: str, payload: Mapping[str, Any], *, timeout: Seconds = DEFAULT_TIMEOUT
    ) -> SegmindResult:
        """Asynchronous twin of :meth:`run`."""
        seconds = models.check_timeout(timeout)
        return await self.arun_operation(lambda api: polling.run(api, model, payload, timeout=seconds))

    def run_sync(self, model: str, payload: Mapping[str, Any]) -> SegmindSyncResult:
        """
        Run a job with the blocking v1 API, ``POST /v1/{model}``; suited to jobs of less than a minute.

        The response is the result file; the request id and the metrics are in its headers, such as ``x-cost``.

        :param model: the model's slug
        :param payload: the model's parameters
        :raises SegmindSubmitUnknownError: no complete response; the call may be billed, and its result is lost
        :raises SegmindRequestError: refused
        """
        return self.run_operation(gateway.run_sync(self.api, model, payload))

    def watch(self, job: SegmindJob, *, deadline: float, poll_interval: float | None = None) -> JobOutcome:
        """
        Wait until a job ends, in this process, and return how it ended, as the trigger's event would say.

        :param job: what :meth:`submit` returned
        :param deadline: epoch seconds, at most eight days ahead; the outcome comes at most 10 seconds later
        :param poll_interval: seconds between two polls; ``None``, the default, for the adaptive poll schedule
        :raises SegmindInputError: an argument is invalid; every other problem is an outcome
        """
        return self.run_operation(_watch(self.api, job, deadline, poll_interval))

    async def awatch(self, job: SegmindJob, *, deadline: float, poll_interval: float | None = None) -> JobOutcome:
        """Asynchronous twin of :meth:`watch`."""
        # Without `arun_operation`: it would be two more objects for each of the thousands of waits of a triggerer.
        with await self.asession() as session:
            return await session.driver.run(_watch(session.api, job, deadline, poll_interval))

    def get_credits(self) -> float:
        """
        Return the account's balance in US dollars: ``GET /v1/get-user-credits``, ``{"credits": number}``.

        :raises SegmindRequestError: refused; with ``status_code`` 404 the account has no balance record
        """
        return self.run_operation(gateway.get_credits(self.api))

    async def aget_credits(self) -> float:
        """Asynchronous twin of :meth:`get_credits`."""
        return await self.arun_operation(gateway.get_credits)

    def find_request(self, model: str, payload: Mapping[str, Any], *, since: float) -> str | None:
        """
        Search the request history for a submit with an unknown outcome; takes up to a minute after ``since``.

        :param model: the model's slug
        :param payload: the parameters as they were submitted
        :param since: when it was submitted, in epoch seconds
        :return: the id of the newest matching request; ``None`` if there certainly is none
        :raises SegmindSubmitUnknownError: the history does not tell
        """
        models.check_moment(since, "since")
        wanted = history.payload_fingerprint(models.check_payload(payload))
        record = self.run_operation(history.find_request(self.api, model, wanted, since=since))
        return record.request_id if record else None

    def get_record(self, request_id: str) -> SegmindRecord | None:
        """
        Look up a request of any age in the request history.

        :param request_id: what :meth:`submit` returned
        :return: ``None`` if the history does not have it
        :raises SegmindServiceError: the history cannot be read
        """
        return self.run_operation(history.get_record(self.api, request_id))

    def upload(self, path_or_bytes: str | os.PathLike[str] | bytes) -> str:
        """
        Store a file at Segmind and return its URL. Anyone with the URL can read it, and it cannot be deleted.

        :param path_or_bytes: the path of a local file, or the content of a file
        :raises SegmindInputError: there is no such file, or its media type is not supported
        """
        return self.run_operation(gateway.upload(self.api, data_uri(path_or_bytes)))

    def download(
        self, result: SegmindResult, target: str | os.PathLike[str] | BinaryIO, *, image: bool = False
    ) -> SegmindFile:
        """
        Download the first output of a result and check it. At a path, the file appears complete or not at all.

        :param result: what :meth:`get_result`, :meth:`wait_for_job` or :meth:`run` returned
        :param target: a local path, or a seekable binary file object, which is overwritten from its start
        :param image: require an image, whatever media type was declared; not by default
        :raises SegmindOutputError: missing, truncated, too large, of the wrong kind, or on a host that is not trusted
        """
        if not isinstance(result, SegmindResult):
            raise SegmindInputError(
                f"Invalid result {redact(repr(result), limit=60)}. Use what get_result, wait_for_job or run returned."
            )
        if isinstance(target, str | os.PathLike):
            with write_atomically(target, "target") as file:
                return self.download(result, file, image=image)
        try:
            target.seek(0)
            target.write(b"")
        except (AttributeError, TypeError, ValueError, OSError):  # not a file, a text file, closed, read-only, a pipe
            raise SegmindInputError(
                f"Invalid target {redact(repr(target), limit=60)}. Use a path or a seekable, writable binary file."
            ) from None
        sink = ResultFile(target, max_bytes=self.api.max_result_bytes, image=image)
        return self.run_operation(download(self.api, result, sink))


def _watch(api: ApiContext, job: SegmindJob, deadline: float, poll_interval: float | None) -> Operation[JobOutcome]:
    models.check_moment(job.submitted_at, "submitted_at")
    models.check_moment(deadline, "deadline")
    if poll_interval is not None:
        models.check_timeout(poll_interval, "poll_interval")
    return polling.watch(
        api, job.request_id, job.model, submitted_at=job.submitted_at, deadline=deadline, poll_interval=poll_interval
    )
