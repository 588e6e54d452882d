"""
As much of S3 as a run in Airflow uses, in memory, fast enough not to be what is measured.

moto takes 3 ms of CPU a request, and a batch makes several requests an image, so with thousands of images moto would be
a large part of the load. This stub takes 0.5 ms. It checks what it is sent: the access key, the length, the SHA-256 and
the CRC-32 of each body, and the conditions of a write. What it does not know it refuses and counts. Contents are kept
once for each digest, so thousands of equal results take no memory.

Not S3's are ``PUT /-/fill``, which makes many equal objects, ``GET /-/objects`` and ``GET /-/statistics``.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
import zlib
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from typing import ClassVar
from urllib.parse import quote
from xml.sax.saxutils import escape

from benchmarks.http_server import HttpConnection, HttpRequest, HttpResponse

ACCESS_KEY, SECRET_KEY = "benchmark", "benchmark-secret"
UNSIGNED = "UNSIGNED-PAYLOAD"


@dataclass(slots=True)
class StoredObject:
    """One object."""

    content: bytes
    sha256: str
    content_type: str
    metadata: Mapping[str, str]
    modified: float

    @property
    def etag(self) -> str:
        """Its version, in quotes as S3 gives it."""
        return f'"{self.sha256[:32]}"'


@dataclass
class Bucket:
    """The objects of a bucket and their names in order."""

    objects: dict[str, StoredObject] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    def put(self, name: str, stored: StoredObject) -> None:
        """Store an object."""
        if name not in self.objects:
            insort(self.names, name)
        self.objects[name] = stored

    def delete(self, name: str) -> None:
        """Delete an object, if it is there."""
        if self.objects.pop(name, None) is not None:
            del self.names[bisect_left(self.names, name)]


class S3Service(HttpConnection):
    """One connection to the service."""

    # Shared, as all connections lead to one service.
    buckets: ClassVar[dict[str, Bucket]] = {"photos": Bucket(), "results": Bucket()}
    contents: ClassVar[dict[str, bytes]] = {}
    counted: ClassVar[Counter[str]] = Counter()

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Answer as S3 would."""
        bucket_name, _, key = request.path.removeprefix("/").partition("/")
        if bucket_name == "-":
            return self._control(key, request)
        if f"Credential={ACCESS_KEY}/" not in request.headers.get("authorization", ""):
            return self._error(403, "AccessDenied")
        if (bucket := self.buckets.get(bucket_name)) is None:
            return self._error(404, "NoSuchBucket")
        unsupported = request.query.keys() - {"list-type", "prefix", "delimiter", "max-keys", "start-after"}
        unsupported -= {"continuation-token", "encoding-type", "x-id", "fetch-owner"}
        if unsupported or "x-amz-trailer" in request.headers or "x-amz-copy-source" in request.headers:
            return self._unsupported(request)
        method = request.method
        self.counted[f"{method} {'object' if key else 'bucket'}"] += 1
        if not key:
            return self._of_bucket(bucket_name, bucket, request)
        if method == "PUT":
            return self._put(bucket, key, request)
        if method == "DELETE":
            bucket.delete(key)
            return HttpResponse(204)
        if method in ("GET", "HEAD"):
            return self._read(bucket, key, request)
        return self._unsupported(request)

    def _of_bucket(self, name: str, bucket: Bucket, request: HttpRequest) -> HttpResponse:
        if request.method == "HEAD":
            return HttpResponse(200, headers={"x-amz-bucket-region": "us-east-1"})
        if request.method != "GET" or request.query.get("list-type") != "2":
            return self._unsupported(request)
        return self._list(name, bucket, request.query)

    def _put(self, bucket: Bucket, key: str, request: HttpRequest) -> HttpResponse:
        headers, body = request.headers, request.body
        digest = hashlib.sha256(body).hexdigest()
        if headers.get("x-amz-content-sha256", UNSIGNED) not in (UNSIGNED, digest):
            return self._error(400, "XAmzContentSHA256Mismatch")
        crc = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
        if headers.get("x-amz-checksum-crc32", crc) != crc:
            return self._error(400, "BadDigest")
        there = bucket.objects.get(key)
        if "if-none-match" in headers and there is not None:
            return self._error(412, "PreconditionFailed")
        if "if-match" in headers and there is None:
            return self._error(404, "NoSuchKey")
        if there is not None and headers.get("if-match", there.etag).strip('"') != there.etag.strip('"'):
            return self._error(412, "PreconditionFailed")
        content = self.contents.setdefault(digest, body) if len(body) > 100_000 else body
        metadata = {name: value for name, value in headers.items() if name.startswith("x-amz-meta-")}
        kind = headers.get("content-type", "binary/octet-stream")
        stored = StoredObject(content, digest, kind, metadata, time.time())
        bucket.put(key, stored)
        self.counted["bytes stored"] += len(body)
        return HttpResponse(200, headers={"etag": stored.etag}, content_type="application/xml")

    def _read(self, bucket: Bucket, key: str, request: HttpRequest) -> HttpResponse:
        if (there := bucket.objects.get(key)) is None:
            return self._error(404, "NoSuchKey")
        content, status = there.content, 200
        headers = {
            "etag": there.etag,
            "last-modified": formatdate(there.modified, usegmt=True),
            "accept-ranges": "bytes",
            **there.metadata,
        }
        if (asked := request.headers.get("range")) is not None:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            end = min(int(last or len(content)), len(content) - 1)
            if int(first) > end:
                return self._error(416, "InvalidRange")
            headers["content-range"] = f"bytes {first}-{end}/{len(content)}"
            content, status = content[int(first) : end + 1], 206
        return HttpResponse(status, content, there.content_type, headers)

    def _list(self, name: str, bucket: Bucket, query: Mapping[str, str]) -> HttpResponse:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        most = int(query.get("max-keys", 1000))
        shown: list[str] = []
        folders: dict[str, None] = {}
        at = bisect_left(bucket.names, max(prefix, after + "\0" if after else ""))
        while at < len(bucket.names) and bucket.names[at].startswith(prefix) and len(shown) + len(folders) < most:
            key = bucket.names[at]
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            if end >= 0:
                folders[key[: end + 1]] = None
                at = bisect_left(bucket.names, key[: end + 1] + "\U0010ffff")
            else:
                shown.append(key)
                at += 1
        more = at < len(bucket.names) and bucket.names[at].startswith(prefix)
        url_encoded = query.get("encoding-type") == "url"

        def text(value: str) -> str:
            return quote(value) if url_encoded else escape(value)

        rows = "".join(
            f"<Contents><Key>{text(key)}</Key><LastModified>{_iso(there.modified)}</LastModified>"
            f"<ETag>{escape(there.etag)}</ETag><Size>{len(there.content)}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
            for key in shown
            if (there := bucket.objects[key])
        )
        rows += "".join(f"<CommonPrefixes><Prefix>{text(folder)}</Prefix></CommonPrefixes>" for folder in folders)
        token = f"<NextContinuationToken>{escape(bucket.names[at - 1])}</NextContinuationToken>" if more else ""
        encoding = "<EncodingType>url</EncodingType>" if url_encoded else ""
        page = (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{name}</Name><Prefix>{text(prefix)}</Prefix><KeyCount>{len(shown) + len(folders)}</KeyCount>"
            f"<MaxKeys>{most}</MaxKeys><IsTruncated>{str(more).lower()}</IsTruncated>{encoding}{token}{rows}"
            "</ListBucketResult>"
        )
        return HttpResponse(200, page.encode(), "application/xml")

    def _control(self, what: str, request: HttpRequest) -> HttpResponse:
        query = request.query
        if what == "fill":
            content, digest = request.body, hashlib.sha256(request.body).hexdigest()
            bucket = self.buckets[query["bucket"]]
            for number in range(int(query["count"])):
                name = f"{query['prefix']}{number // 1000:03}/{number:06}.png"
                bucket.put(name, StoredObject(content, digest, "image/png", {}, time.time()))
            return HttpResponse.of_json({})
        if what == "objects":
            bucket = self.buckets[query["bucket"]]
            found = {
                key: [len(there.content), there.sha256, there.modified]
                for key, there in bucket.objects.items()
                if key.startswith(query["prefix"])
            }
            return HttpResponse.of_json(found)
        return HttpResponse.of_json(dict(self.counted))

    def _unsupported(self, request: HttpRequest) -> HttpResponse:
        self.counted["unsupported"] += 1
        print(f"not supported: {request.method} {request.path} {json.dumps(dict(request.query))}", flush=True)
        return self._error(501, "NotImplemented")

    def _error(self, status: int, code: str) -> HttpResponse:
        self.counted[f"error {code}"] += 1
        page = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
        return HttpResponse(status, page.encode(), "application/xml")


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def serve() -> None:
    """Serve until the process is stopped."""
    server = await asyncio.get_running_loop().create_server(S3Service, "127.0.0.1", 0, backlog=1024)
    print(f"S3 at http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
