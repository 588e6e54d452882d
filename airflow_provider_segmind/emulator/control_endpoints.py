"""The emulator's own endpoints, without a key: switch faults, list jobs and requests."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_segmind.emulator.faults import Fault, Faults
from airflow_provider_segmind.emulator.job_runner import JobRunner
from airflow_provider_segmind.emulator.request_log import RequestLog


class ControlEndpoints:
    """
    The endpoints under ``/emulator``.

    :param runner: runs the jobs
    :param faults: the fault switches
    :param requests: the request log
    """

    def __init__(self, runner: JobRunner, faults: Faults, requests: RequestLog) -> None:
        self._runner = runner
        self._faults = faults
        self._requests = requests

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/emulator/faults", self.list_faults, methods=["GET"]),
            Route("/emulator/faults", self.add_faults, methods=["POST"]),
            Route("/emulator/faults", self.clear_faults, methods=["DELETE"]),
            Route("/emulator/faults/{fault_id:int}", self.remove_fault, methods=["DELETE"]),
            Route("/emulator/jobs", self.jobs, methods=["GET"]),
            Route("/emulator/requests", self.requests, methods=["GET"]),
            Route("/emulator/requests", self.clear_requests, methods=["DELETE"]),
        ]

    async def list_faults(self, request: Request) -> Response:  # noqa: ARG002 - the signature of all endpoints
        """``GET /emulator/faults``."""
        return JSONResponse([fault.as_dict() for fault in self._faults.all()])

    async def add_faults(self, request: Request) -> Response:
        """``POST /emulator/faults``: add the fault of a JSON object, or all of a list."""
        added: list[Fault] = []
        try:
            body = await request.json()
            for options in body if isinstance(body, list) else [body]:
                added.append(self._faults.add(**_decoded(options)))  # noqa: PERF401 - keeps those before an error
        except (TypeError, ValueError, binascii.Error) as error:
            for fault in added:  # all faults of a list are added, or none
                self._faults.remove(fault.id)
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse([fault.as_dict() for fault in added], 201)

    async def clear_faults(self, request: Request) -> Response:  # noqa: ARG002
        """``DELETE /emulator/faults``."""
        self._faults.clear()
        return Response(status_code=204)

    async def remove_fault(self, request: Request) -> Response:
        """``DELETE /emulator/faults/{id}``."""
        return Response(status_code=204 if self._faults.remove(request.path_params["fault_id"]) else 404)

    async def jobs(self, request: Request) -> Response:  # noqa: ARG002
        """``GET /emulator/jobs``."""
        now, store = time.time(), self._runner.store
        return JSONResponse(
            {
                "accepted": len(store.all()),
                "posts_per_image": store.posts_per_image(),
                "spent": round(store.spent(), 6),
                "balance": self._runner.balance,
                "jobs": [job.as_dict(now) for job in store.all()],
            }
        )

    async def requests(self, request: Request) -> Response:  # noqa: ARG002
        """``GET /emulator/requests``."""
        return JSONResponse(
            {
                "total": self._requests.total,
                "counts": self._requests.counts,
                "statuses": self._requests.statuses,
                "rejected": self._requests.rejected,
                "log": [dataclasses.asdict(entry) for entry in self._requests.log],
            }
        )

    async def clear_requests(self, request: Request) -> Response:  # noqa: ARG002
        """``DELETE /emulator/requests``."""
        self._requests.clear()
        return Response(status_code=204)


def _decoded(options: Any) -> dict[str, Any]:
    """Decode a fault's options: a name that ends in ``_base64`` holds bytes as Base64."""
    if not isinstance(options, dict):
        raise TypeError("A fault must be a JSON object with a name.")
    return {
        name.removesuffix("_base64"): (base64.b64decode(value, validate=True) if name.endswith("_base64") else value)
        for name, value in options.items()
    }
