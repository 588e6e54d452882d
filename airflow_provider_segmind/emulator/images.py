"""Reading the image that a request names: a URL, Base64 or a data URI."""

from __future__ import annotations

import base64
import binascii
import io
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

if TYPE_CHECKING:
    from PIL.Image import Image

ACCEPTED_FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 64_000_000  # a small file can unpack to gigabytes
FETCH_TIMEOUT = httpx.Timeout(20.0, connect=5.0)


class InputRefusedError(Exception):
    """An input is not usable; its text is what the job's ``error`` will say."""


def is_url(text: str) -> bool:
    """
    Tell whether an input is to be fetched.

    :param text: the parameter's value
    """
    return text[:8].lower().startswith(("http://", "https://"))


def decode_inline(text: str) -> bytes:
    """
    Return the bytes of a Base64 string or a data URI.

    :param text: the parameter's value
    """
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise InputRefusedError("Invalid image: the data URI is not Base64")
    try:
        content = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InputRefusedError("Invalid image: neither a URL nor a Base64 string") from None
    if not content:
        raise InputRefusedError("Invalid image: it is empty")
    return content


class Fetcher:
    """
    Fetches images by URL; its connections are shared by all jobs.

    :param max_bytes: a larger image is refused
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._clients: dict[bool, httpx.AsyncClient] = {}

    async def read(self, text: str) -> bytes:
        """
        Return the bytes of an image.

        :param text: the parameter's value: URL, Base64 or data URI
        """
        content = await self._fetch(text) if is_url(text) else decode_inline(text)
        if len(content) > self._max_bytes:
            raise self._too_large()
        return content

    async def _fetch(self, url: str) -> bytes:
        try:
            async with self._client(url).stream("GET", url) as response:
                if response.status_code != 200:
                    raise InputRefusedError(f"Could not fetch the image: HTTP {response.status_code}")
                content = bytearray()
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > self._max_bytes:
                        raise self._too_large()
                return bytes(content)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise InputRefusedError(f"Could not fetch the image: {type(error).__name__}") from error

    def _client(self, url: str) -> httpx.AsyncClient:
        # A proxy of the environment does not know this machine's loopback.
        local = urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
        if local not in self._clients:
            self._clients[local] = httpx.AsyncClient(follow_redirects=True, timeout=FETCH_TIMEOUT, trust_env=not local)
        return self._clients[local]

    def _too_large(self) -> InputRefusedError:
        return InputRefusedError(f"Invalid image: larger than {self._max_bytes} bytes")

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()


def open_image(content: bytes) -> Image:
    """
    Decode an image, or say what is wrong with it.

    :param content: the bytes of the image
    """
    import PIL.Image

    try:
        image = PIL.Image.open(io.BytesIO(content))
    except (PIL.UnidentifiedImageError, PIL.Image.DecompressionBombError):
        raise InputRefusedError("Invalid image: cannot identify the image file") from None
    with image:
        if image.format not in ACCEPTED_FORMATS:
            raise InputRefusedError(f"Unsupported image type {image.format}; use JPEG, PNG or WEBP")
        if image.width * image.height > MAX_PIXELS:
            raise InputRefusedError(f"Invalid image: more than {MAX_PIXELS} pixels")
        try:
            has_alpha = "A" in image.getbands() or "transparency" in image.info
            return image.convert("RGBA" if has_alpha else "RGB")
        except (OSError, SyntaxError, ValueError):
            raise InputRefusedError("Invalid image: the file is damaged or cut short") from None
