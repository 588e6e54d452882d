"""Read and decode the image of a request, given as a URL, Base64 or a data URI."""

from __future__ import annotations

import base64
import binascii
import io
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import IO
from urllib.parse import urlsplit

import httpx
import numpy as np
import PIL.Image
from PIL import ExifTags, ImageCms
from PIL.Image import Image, Transpose
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from airflow_provider_segmind.emulator.file_types import detect

DECODERS: dict[str, Callable[[IO[bytes]], ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
}
# The transposition that makes an image upright, by EXIF orientation; 1 needs none.
ORIENTATIONS: dict[object, Transpose] = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
SRGB = ImageCms.createProfile("sRGB")
MAX_PIXELS = 64_000_000  # a small file can unpack to gigabytes
FETCH_TIMEOUT = httpx.Timeout(20.0, connect=5.0)


class InvalidInputError(Exception):
    """An input is not usable; the message becomes the job's ``error``."""


def is_url(text: str) -> bool:
    """
    Tell whether an image parameter is a URL.

    :param text: the parameter's value
    """
    return text[:8].lower().startswith(("http://", "https://"))


def decode_inline(text: str) -> bytes:
    """
    Decode a Base64 string or a data URI.

    :param text: the parameter's value
    :raises InvalidInputError: it is neither, or it is empty
    """
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise InvalidInputError("Invalid image: the data URI is not Base64")
    try:
        content = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInputError("Invalid image: neither a URL nor a Base64 string") from None
    if not content:
        raise InvalidInputError("Invalid image: it is empty")
    return content


class Fetcher:
    """
    Reads the images of all jobs, with shared connections.

    :param max_bytes: the size limit of an image
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._clients: dict[bool, httpx.AsyncClient] = {}

    async def read(self, text: str) -> bytes:
        """
        Return the bytes of an image.

        :param text: the parameter's value: URL, Base64 or data URI
        :raises InvalidInputError: the image cannot be fetched, is not valid Base64 or is too large
        """
        content = await self._fetch(text) if is_url(text) else decode_inline(text)
        if len(content) > self._max_bytes:
            raise self._too_large()
        return content

    async def _fetch(self, url: str) -> bytes:
        try:
            async with self._client(url).stream("GET", url) as response:
                if response.status_code != 200:
                    raise InvalidInputError(f"Could not fetch the image: HTTP {response.status_code}")
                content = bytearray()
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > self._max_bytes:
                        raise self._too_large()
                return bytes(content)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise InvalidInputError(f"Could not fetch the image: {type(error).__name__}") from error

    def _client(self, url: str) -> httpx.AsyncClient:
        # A proxy from the environment cannot reach this machine's loopback addresses.
        local = urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
        if local not in self._clients:
            self._clients[local] = httpx.AsyncClient(follow_redirects=True, timeout=FETCH_TIMEOUT, trust_env=not local)
        return self._clients[local]

    def _too_large(self) -> InvalidInputError:
        return InvalidInputError(f"Invalid image: larger than {self._max_bytes} bytes")

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()


def open_image(content: bytes) -> Image:
    """
    Decode an image: upright, RGB or RGBA with 8 bits per channel, sRGB colours. Of several frames the first is used.

    :param content: a JPEG, PNG or WEBP file
    :raises InvalidInputError: the file is not usable as an image
    """
    if not content:
        raise InvalidInputError("Invalid image: it is empty")
    file_type = detect(content)
    if file_type is None:
        raise InvalidInputError("Invalid image: cannot identify the image file")
    if file_type.name not in DECODERS:
        raise InvalidInputError(f"Unsupported image type {file_type.name}; use JPEG, PNG or WEBP")
    try:
        return _decode(DECODERS[file_type.name], content)
    except PIL.Image.DecompressionBombError:
        raise InvalidInputError(f"Invalid image: more than {MAX_PIXELS} pixels") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error):
        raise InvalidInputError("Invalid image: the file is damaged or cut short") from None


def _decode(decoder: Callable[[IO[bytes]], ImageFile], content: bytes) -> Image:
    # PIL.Image.open would treat a JPEG with a second frame (MPO) as another format, warn about damage in its index and
    # warn about large images.
    with decoder(io.BytesIO(content)) as image:
        if image.width * image.height > MAX_PIXELS:
            raise PIL.Image.DecompressionBombError
        image.load()
        return _upright(image, _in_srgb(image))


def _in_srgb(image: Image) -> Image:
    has_alpha = "A" in image.getbands() or "transparency" in image.info
    mode = "RGBA" if has_alpha else "RGB"
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I"):
        image = _in_eight_bits(image)
    if has_alpha or image.mode == "P":
        image = image.convert(mode)
    if profile:
        # Viewers ignore a profile that is damaged or belongs to another colour model.
        with suppress(ImageCms.PyCMSError, OSError):
            converted = ImageCms.profileToProfile(image, io.BytesIO(profile), SRGB, outputMode=mode)
            assert converted is not None, "only a conversion in place returns None"  # noqa: S101
            return converted
    return image.convert(mode)


def _in_eight_bits(image: Image) -> Image:
    """Scale 16-bit greyscale down; Pillow would turn everything above 255 into white."""
    pixels = np.asarray(image)
    grey = PIL.Image.fromarray((pixels >> 8).astype(np.uint8))
    if (transparent := image.info.get("transparency")) is not None:
        grey.putalpha(PIL.Image.fromarray(np.where(pixels == transparent, 0, 255).astype(np.uint8)))
    return grey


def _upright(source: Image, image: Image) -> Image:
    """Apply the EXIF orientation of the source."""
    try:
        method = ORIENTATIONS.get(source.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # noqa: BLE001 - Pillow raises errors of many types on damaged EXIF, which viewers ignore
        return image
    return image if method is None else image.transpose(method)
