"""The endpoints of the gateway, of the file hosts and of the storage."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from airflow_provider_segmind.emulator.calls import Call
from airflow_provider_segmind.emulator.file_types import extension_for, media_type_for
from airflow_provider_segmind.emulator.images import InputRefusedError, decode_inline
from airflow_provider_segmind.emulator.jobs import Job
from airflow_provider_segmind.emulator.models import MODELS
from airflow_provider_segmind.emulator.settings import Settings
from airflow_provider_segmind.emulator.work import Workshop


def refuse(status: int, text: str) -> JSONResponse:
    """
    Answer with an error in the gateway's envelope.

    :param status: the HTTP status
    :param text: what is wrong
    """
    return JSONResponse({"error": text}, status)


def no_such_file() -> Response:
    """Answer as a file host does: in XML."""
    page = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>NoSuchKey</Code></Error>'
    return Response(page, 404, media_type="application/xml")


def base_url(request: Request) -> str:
    """
    Return the address under which the client knows the service.

    :param request: any request
    """
    return str(request.base_url).rstrip("/")


def output_url(request: Request, name: str) -> str:
    """
    Return the public address of a result file.

    :param request: any request
    :param name: the file's name
    """
    return f"{base_url(request)}/generations/{name}"


class Service:
    """
    The service's endpoints; the gateway in front of them has checked the key and the rate limit.

    :param settings: the emulator's options
    :param workshop: where jobs are done
    :param folder: where uploaded assets are kept
    """

    def __init__(self, settings: Settings, workshop: Workshop, folder: Path) -> None:
        self._settings = settings
        self._workshop = workshop
        self._assets = folder / "assets"
        self._assets.mkdir(exist_ok=True)

    def _accept(self, call: Call, request: Request, via: str) -> Job | Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return refuse(406, "Not acceptable: the Content-Type must be application/json")
        if not isinstance(call.payload, dict):
            return refuse(400, "The request body must be a JSON object")
        model = MODELS.get(call.model or "")
        if model is None:
            return refuse(404, f"Model not found: {call.model}")
        if model.refusal is not None:
            return refuse(*model.refusal)
        if (objection := model.objection(call.payload)) is not None:
            return refuse(406, objection)
        if (balance := self._workshop.balance) < model.cost:
            return refuse(406, f"Insufficient credits. Your balance is ${balance:.4f}")
        return self._workshop.accept(str(call.model), call.payload, call.raw, via, call.plan)

    async def submit(self, request: Request) -> Response:
        """``POST /v2/{model}``."""
        job = self._accept(request.scope["emulator.call"], request, "v2")
        if isinstance(job, Response):
            return job
        base, request_id = base_url(request), job.request_id
        return JSONResponse(
            {
                "request_id": request_id,
                "status": "QUEUED",
                "poll_url": f"{base}/v1/requests/{request_id}",
                "status_url": f"{base}/v2/requests/{request_id}/status",
                "response_url": f"{base}/v2/requests/{request_id}",
            }
        )

    async def sync(self, request: Request) -> Response:
        """``POST /v1/{model}``."""
        job = self._accept(request.scope["emulator.call"], request, "v1")
        if isinstance(job, Response):
            return job
        await self._workshop.wait(job)
        if job.error is not None:
            return refuse(500 if job.planned_error else 400, job.error)
        headers = {
            "x-request-id": job.request_id,
            "x-cost": str(job.cost),
            "x-remaining-credits": str(job.remaining_credits),
            "x-generation-time": str(job.times()["inference_time"]),
        }
        if not job.files:
            return JSONResponse({"output": job.text}, headers=headers)
        return FileResponse(self._workshop.store.files / job.files[0], headers=headers)

    def _known(self, job: Job | None) -> Job | None:
        """Return a job whose record is still kept."""
        if job is None or job.record_gone:
            return None
        if job.finished is not None and time.time() >= job.finished + self._settings.record_seconds:
            return None
        return job

    async def status(self, request: Request) -> Response:
        """``GET /v2/requests/{id}/status``."""
        job = self._known(request.scope["emulator.call"].job)
        if job is None:
            return refuse(404, "Request not found")
        state = job.state(time.time())
        if state == "FAILED":
            return self._failed(job)
        body = {"status": state, "request_id": job.request_id, "metrics": self._metrics(job)}
        return JSONResponse(body)

    async def result(self, request: Request) -> Response:
        """``GET /v2/requests/{id}``, and ``GET /v1/requests/{id}``."""
        job = self._known(request.scope["emulator.call"].job)
        if job is None:
            return refuse(404, "Request not found")
        state = job.state(time.time())
        if state == "FAILED":
            return self._failed(job)
        body = {"status": state, "error": None, "metrics": self._metrics(job)}
        if state != "COMPLETED":
            return JSONResponse(body)
        if not job.files:
            return JSONResponse({**body, "output": job.text})
        images = [
            {
                "url": output_url(request, name),
                "content_type": "image/png",
                "file_name": name,
                "file_size": (self._workshop.store.files / name).stat().st_size,
            }
            for name in job.files
        ]
        return JSONResponse({**body, "images": images, "output": images[0]["url"]})

    def _failed(self, job: Job) -> Response:
        body = {"status": "FAILED", "error": job.error, "metrics": job.times()}
        return JSONResponse(body, 422)

    def _metrics(self, job: Job) -> dict[str, float | int | None]:
        if job.finished is None:
            return {}
        accounting = {"cost": job.cost, "remaining_credits": job.remaining_credits, "retry_count": 0}
        return {**job.times(), **accounting}

    async def file(self, request: Request) -> Response:
        """``GET /generations/{name}``: public, no key."""
        job, name = request.scope["emulator.call"].job, request.path_params["name"]
        if job is None or job.files_gone or time.time() >= job.finished + self._settings.file_seconds:
            return no_such_file()
        if request.method == "GET":
            job.downloads[name] = job.downloads.get(name, 0) + 1
            self._workshop.store.save(job)
        return FileResponse(self._workshop.store.files / name, media_type="image/png")

    async def credits(self, request: Request) -> Response:  # noqa: ARG002 - endpoints are called alike
        """``GET /v1/get-user-credits``."""
        return JSONResponse({"credits": self._workshop.balance})

    async def upload(self, request: Request) -> Response:
        """``POST /upload-asset``."""
        payload = request.scope["emulator.call"].payload
        sources = payload.get("data_urls") if isinstance(payload, dict) else None
        if not isinstance(sources, list) or not sources:
            return refuse(400, "data_urls must be a list of data URLs")
        contents = []
        for source in sources:
            if not isinstance(source, str) or not source.startswith("data:"):
                return refuse(400, "data_urls must be a list of data URLs")
            try:
                contents.append((source[5:].partition(";")[0], decode_inline(source)))
            except InputRefusedError as error:
                return refuse(400, str(error))
        urls = []
        for media_type, content in contents:
            name = f"{uuid.uuid4()}{extension_for(media_type, content)}"
            (self._assets / name).write_bytes(content)
            urls.append(f"{base_url(request)}/assets/{name}")
        return JSONResponse({"file_urls": urls, "message": "Files uploaded successfully"})

    async def asset(self, request: Request) -> Response:
        """``GET /assets/{name}``: public, no key."""
        path = self._assets / request.path_params["name"]
        if path.parent != self._assets or not path.is_file():
            return no_such_file()
        return FileResponse(path, media_type=media_type_for(path.name))
