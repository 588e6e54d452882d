"""The hook: an Airflow connection, and the flows of the API run over it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_segmind.api import gateway, history, polling
from airflow_provider_segmind.api.models import (
    DEFAULT_TIMEOUT,
    JobOutcome,
    SegmindFile,
    SegmindJob,
    SegmindRecord,
    SegmindResult,
    SegmindStatus,
    SegmindSyncResult,
    check_timeout,
)
from airflow_provider_segmind.api.operation import ApiContext, Operation
from airflow_provider_segmind.api.redaction import redact
from airflow_provider_segmind.exceptions import SegmindError
from airflow_provider_segmind.get_provider_info import FIELDS
from airflow_provider_segmind.hooks import flows
from airflow_provider_segmind.hooks.async_methods import AsyncMethods
from airflow_provider_segmind.hooks.connection import SegmindSettings
from airflow_provider_segmind.hooks.transport import SyncDriver, context_for

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")


class SegmindHook(AsyncMethods, BaseHook):
    """
    Talk to Segmind through an Airflow connection of type ``segmind``.

    The connection's password is the API key; it goes to the connection's own hosts and nowhere else. Each method has
    an asynchronous twin with the prefix ``a`` (``asubmit``, ``aget_status``, ...), for triggers. All methods raise
    the exceptions of :mod:`airflow_provider_segmind.exceptions`, and only those, but for a connection that is not
    there: Airflow's own ``AirflowNotFoundException`` stays, for a secrets backend that is down looks the same, and a
    retry may help. Any of them can raise :class:`SegmindInputError` (an unusable connection or argument; nothing was
    sent), :class:`SegmindAuthError` (the key was refused), :class:`SegmindRateLimitError` and
    :class:`SegmindServiceError` (Segmind or the way to it is down).

    :param segmind_conn_id: the connection's id
    """

    conn_name_attr = "segmind_conn_id"
    default_conn_name = "segmind_default"
    conn_type = "segmind"
    hook_name = "Segmind"

    def __init__(self, segmind_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.segmind_conn_id = segmind_conn_id
        self._settings: SegmindSettings | None = None
        self._driver: SyncDriver | None = None

    # ------------------------------------------------------------------ the connection

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the extra fields of the connection form, for Airflow before 3.2; later ones read the provider info."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from flask_babel import lazy_gettext
        from wtforms import StringField

        return {
            name: StringField(lazy_gettext(label), widget=BS3TextFieldWidget(), description=description)
            for name, (label, _, description) in FIELDS.items()
        }

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the connection form's own fields look, for Airflow before 3.2."""
        from airflow_provider_segmind.get_provider_info import FIELD_BEHAVIOUR

        return dict(FIELD_BEHAVIOUR)

    @property
    def settings(self) -> SegmindSettings:
        """
        The connection, checked; read once.

        :raises SegmindInputError: the connection is unusable
        :raises AirflowNotFoundException: it is not there
        """
        if self._settings is None:
            self._settings = SegmindSettings.from_connection(self.get_connection(self.segmind_conn_id))
        return self._settings

    @property
    def api(self) -> ApiContext:
        """What the flows need; shared by all hooks of the connection in this process."""
        return context_for(self.settings)

    def get_conn(self) -> httpx.Client:
        """
        Return the client for Segmind's API, its base URL set.

        It adds the key to requests to the connection's own hosts, and to no others.
        """
        return self._sync_driver().client

    def close(self) -> None:
        """Close the client; a later call opens a new one."""
        if self._driver is not None:
            self._driver.close()
            self._driver = None

    def _sync_driver(self) -> SyncDriver:
        if self._driver is None:
            self._driver = SyncDriver(self.settings)
            weakref.finalize(self, self._driver.close)
        return self._driver

    def run_operation(self, operation: Operation[T]) -> T:
        """
        Run a flow of :mod:`airflow_provider_segmind.api` over this connection.

        :param flow: made with :attr:`service`
        """
        return self._sync_driver().run(operation)

    def test_connection(self) -> tuple[bool, str]:
        """
        Ask for the account's credits: runs no model, costs nothing.

        :return: whether the key is good, and what to tell; never raises
        """
        try:
            return True, f"Connected to Segmind: {self.get_credits():g} USD of credits."
        except Exception as error:  # noqa: BLE001 - told to the one who asks, whatever it is
            said = str(error)
            if getattr(error, "status_code", None) == 404 and "credits found" in said.lower():
                return True, "Connected to Segmind: the key is good, the account has no balance record."
            return False, redact(
                said if isinstance(error, SegmindError) else f"{type(error).__name__}: {said}", limit=999
            )

    # ------------------------------------------------------------------ jobs

    def submit(self, model: str, payload: Mapping[str, Any]) -> SegmindJob:
        """
        Submit a job (``POST /v2/{model}``); it is billed when it completes.

        :param model: the model's slug, such as ``bria-erase-foreground``
        :param payload: its parameters, as on the model's API page
        :raises SegmindRateLimitError: at once; nothing was queued
        :raises SegmindSubmitUnknownError: the job may be queued; see :meth:`find_request`
        :raises SegmindRequestError: refused
        """
        return self.run_operation(gateway.submit(self.api, model, payload))

    def get_status(self, request_id: str) -> SegmindStatus:
        """
        Ask for a job's state. A FAILED job is a state here, not an exception.

        :param request_id: what :meth:`submit` returned
        :raises SegmindJobExpiredError: Segmind keeps a job's record for one hour
        """
        return self.run_operation(polling.get_status(self.api, request_id))

    def get_result(self, request_id: str) -> SegmindResult:
        """
        Ask for a job's result; it has no outputs while the job still runs.

        :param request_id: what :meth:`submit` returned
        :raises SegmindJobFailedError: the job FAILED
        :raises SegmindJobExpiredError: Segmind keeps a result's record for one hour
        """
        return self.run_operation(polling.get_result(self.api, request_id))

    def wait_for_job(self, request_id: str, *, timeout: float = DEFAULT_TIMEOUT) -> SegmindResult:
        """
        Wait for a job's end; a last look precedes a timeout.

        :param request_id: what :meth:`submit` returned
        :param timeout: seconds from now, at most a week; 600 by default
        :raises SegmindJobTimeoutError: it still runs; its id is in the exception
        :raises SegmindJobFailedError: it failed; the service's words are in ``detail``
        :raises SegmindJobExpiredError: Segmind keeps a job's record for one hour
        """
        return self.run_operation(polling.wait_for_job(self.api, request_id, timeout=check_timeout(timeout)))

    def run(self, model: str, payload: Mapping[str, Any], *, timeout: float = DEFAULT_TIMEOUT) -> SegmindResult:
        """
        Submit a job and wait for its end: :meth:`submit`, then :meth:`wait_for_job`.

        :param model: the model's slug
        :param payload: its parameters
        :param timeout: seconds from the submit, at most a week; 600 by default
        :raises SegmindError: what either of them raises
        """
        return self.run_operation(polling.run(self.api, model, payload, timeout=check_timeout(timeout)))

    def run_sync(self, model: str, payload: Mapping[str, Any]) -> SegmindSyncResult:
        """
        Run a job by the blocking v1 API, which answers with the file itself; good for jobs under a minute.

        :param model: the model's slug
        :param payload: its parameters
        :raises SegmindSubmitUnknownError: no whole answer came; the call may be billed, and its result is lost
        :raises SegmindRequestError: refused
        """
        return self.run_operation(gateway.run_sync(self.api, model, payload))

    def watch(self, job: SegmindJob, *, deadline: float, poll_interval: float | None = None) -> JobOutcome:
        """
        Wait for a job's end in this process and return how it ended, as the trigger's event would say.

        :param job: what :meth:`submit` returned
        :param deadline: epoch seconds, at most eight days ahead
        :param poll_interval: seconds between two looks, ``None`` (the default) for the adaptive schedule
        :raises SegmindInputError: one of them is unusable; anything else is an outcome
        """
        return self.run_operation(flows.watch(self.api, job, deadline, poll_interval))

    # ------------------------------------------------------------------ the account

    def get_credits(self) -> float:
        """
        Return the account's balance in US dollars.

        :raises SegmindRequestError: refused; with status 404 the account has no balance record
        """
        return self.run_operation(gateway.get_credits(self.api))

    def find_request(self, model: str, payload: Mapping[str, Any], *, since: float) -> str | None:
        """
        Look for the request of a submit whose outcome is unknown; takes up to a minute after ``since``.

        :param model: the model's slug
        :param payload: the parameters as they were submitted
        :param since: epoch seconds of the submit
        :return: the newest matching request's id, ``None`` where there surely is none
        :raises SegmindSubmitUnknownError: the history cannot tell
        """
        return self.run_operation(flows.find_request(self.api, model, payload, since))

    def get_record(self, request_id: str) -> SegmindRecord | None:
        """
        Look a request of any age up in the request history.

        :param request_id: what :meth:`submit` returned
        :return: ``None`` where the history does not have it
        :raises SegmindServiceError: the history cannot be read
        """
        return self.run_operation(history.get_record(self.api, request_id))

    def upload(self, path_or_bytes: str | os.PathLike[str] | bytes) -> str:
        """
        Store a file at Segmind and return its address. It is public by its link and cannot be deleted there.

        :param path_or_bytes: a local file's path, or a file's content
        :raises SegmindInputError: there is no such file, or it is no known media type
        """
        return self.run_operation(flows.upload(self.api, path_or_bytes))

    def download(
        self, result: SegmindResult, target: str | os.PathLike[str] | BinaryIO, *, image: bool = False
    ) -> SegmindFile:
        """
        Fetch a result's first output, checked; at a path it appears whole or not at all.

        :param result: what :meth:`get_result`, :meth:`wait_for_job` or :meth:`run` returned
        :param target: a local path, or a seekable binary file object, which is overwritten from its start
        :param image: insist on an image whatever media type was declared; not by default
        :raises SegmindOutputError: missing, truncated, too large, of the wrong kind, or on a host not trusted
        """
        return self.run_operation(flows.download(self.api, result, target, image))
