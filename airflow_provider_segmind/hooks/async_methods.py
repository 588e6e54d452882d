"""The hook's asynchronous twins, for triggers: the same flows, run by the event loop's driver."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

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
from airflow_provider_segmind.hooks import flows
from airflow_provider_segmind.hooks.connection import SegmindSettings
from airflow_provider_segmind.hooks.transport import context_for, driver_for

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseHook, Connection

T = TypeVar("T")


class AsyncMethods:
    """What :class:`~airflow_provider_segmind.hooks.segmind.SegmindHook` can do on an event loop; see its methods."""

    segmind_conn_id: str
    _settings: SegmindSettings | None
    get_connection: Callable[[str], Connection]

    async def asettings(self) -> SegmindSettings:
        """
        Read the connection without blocking the event loop; once.

        :raises SegmindInputError: the connection is unusable
        """
        if self._settings is None:
            self._settings = SegmindSettings.from_connection(await self._aget_connection())
        return self._settings

    async def _aget_connection(self) -> Connection:
        from airflow.providers.common.compat.connection import get_async_connection
        from airflow.providers.common.compat.sdk import AirflowNotFoundException
        from asgiref.sync import sync_to_async

        try:
            return await get_async_connection(self.segmind_conn_id, hook=cast("type[BaseHook]", type(self)))
        except AirflowNotFoundException:
            # `airflow dags test` on 3.3 does not find the database's connections asynchronously.
            return await sync_to_async(self.get_connection)(self.segmind_conn_id)

    async def arun_operation(self, start: Callable[[ApiContext], Operation[T]]) -> T:
        """
        Run a flow of :mod:`airflow_provider_segmind.api` over this connection.

        :param start: makes the flow, once the connection is known
        """
        settings = await self.asettings()
        async with driver_for(settings) as driver:
            return await driver.run(start(context_for(settings)))

    async def asubmit(self, model: str, payload: Mapping[str, Any]) -> SegmindJob:
        """Asynchronous twin of :meth:`submit`."""
        return await self.arun_operation(lambda api: gateway.submit(api, model, payload))

    async def aget_status(self, request_id: str) -> SegmindStatus:
        """Asynchronous twin of :meth:`get_status`."""
        return await self.arun_operation(lambda api: polling.get_status(api, request_id))

    async def aget_result(self, request_id: str) -> SegmindResult:
        """Asynchronous twin of :meth:`get_result`."""
        return await self.arun_operation(lambda api: polling.get_result(api, request_id))

    async def await_for_job(self, request_id: str, *, timeout: float = DEFAULT_TIMEOUT) -> SegmindResult:  # noqa: ASYNC109 - of the job
        """Asynchronous twin of :meth:`wait_for_job`."""
        seconds = check_timeout(timeout)
        return await self.arun_operation(lambda api: polling.wait_for_job(api, request_id, timeout=seconds))

    async def arun(self, model: str, payload: Mapping[str, Any], *, timeout: float = DEFAULT_TIMEOUT) -> SegmindResult:  # noqa: ASYNC109
        """Asynchronous twin of :meth:`run`."""
        seconds = check_timeout(timeout)
        return await self.arun_operation(lambda api: polling.run(api, model, payload, timeout=seconds))

    async def arun_sync(self, model: str, payload: Mapping[str, Any]) -> SegmindSyncResult:
        """Asynchronous twin of :meth:`run_sync`."""
        return await self.arun_operation(lambda api: gateway.run_sync(api, model, payload))

    async def awatch(self, job: SegmindJob, *, deadline: float, poll_interval: float | None = None) -> JobOutcome:
        """Asynchronous twin of :meth:`watch`."""
        return await self.arun_operation(lambda api: flows.watch(api, job, deadline, poll_interval))

    async def aget_credits(self) -> float:
        """Asynchronous twin of :meth:`get_credits`."""
        return await self.arun_operation(gateway.get_credits)

    async def afind_request(self, model: str, payload: Mapping[str, Any], *, since: float) -> str | None:
        """Asynchronous twin of :meth:`find_request`."""
        return await self.arun_operation(lambda api: flows.find_request(api, model, payload, since))

    async def aget_record(self, request_id: str) -> SegmindRecord | None:
        """Asynchronous twin of :meth:`get_record`."""
        return await self.arun_operation(lambda api: history.get_record(api, request_id))

    async def aupload(self, path_or_bytes: str | os.PathLike[str] | bytes) -> str:
        """Asynchronous twin of :meth:`upload`; the file is read on the event loop's thread."""
        return await self.arun_operation(lambda api: flows.upload(api, path_or_bytes))

    async def adownload(
        self, result: SegmindResult, target: str | os.PathLike[str] | BinaryIO, *, image: bool = False
    ) -> SegmindFile:
        """Asynchronous twin of :meth:`download`; the file is written and checked on the event loop's thread."""
        return await self.arun_operation(lambda api: flows.download(api, result, target, image))
