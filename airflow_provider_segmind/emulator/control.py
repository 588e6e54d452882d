"""The emulator's own routes: switching faults and looking at what happened. They need no key."""

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
from airflow_provider_segmind.emulator.request_log import RequestLog
from airflow_provider_segmind.emulator.work import Workshop


class Control:
    """
    The routes under ``/emulator``.

    :param workshop: where jobs are done
    :param faults: the switches
    :param requests: what was asked
    """

    def __init__(self, workshop: Workshop, faults: Faults, requests: RequestLog) -> None:
        self._workshop = workshop
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

    async def list_faults(self, request: Request) -> Response:  # noqa: ARG002 - endpoints are called alike
        """``GET /emulator/faults``."""
        return JSONResponse([fault.as_dict() for fault in self._faults.all()])

    async def add_faults(self, request: Request) -> Response:
        """``POST /emulator/faults``: one object or a list of them."""
        added: list[Fault] = []
        try:
            wanted = await request.json()
            for options in wanted if isinstance(wanted, list) else [wanted]:
                added.append(self._faults.add(**_decoded(options)))  # noqa: PERF401 - some may be added
        except (TypeError, ValueError, binascii.Error) as error:
            for fault in added:  # all or nothing
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
        now, store = time.time(), self._workshop.store
        return JSONResponse(
            {
                "accepted": len(store.all()),
                "posts_per_image": store.posts_per_image(),
                "spent": round(store.spent(), 6),
                "balance": self._workshop.balance,
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
    """Return a fault's options; bytes come as Base64 under a name with the ending ``_base64``."""
    if not isinstance(options, dict):
        raise TypeError("a fault is a JSON object with at least a name")
    return {
        name.removesuffix("_base64"): (base64.b64decode(value, validate=True) if name.endswith("_base64") else value)
        for name, value in options.items()
    }
