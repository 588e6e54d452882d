"""What to do, as the environment says it."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

PHOTO = Path(__file__).parent / "photos" / "astronaut.jpg"
KINDS = {"image/jpeg", "image/png", "image/webp"}


class OrderError(Exception):
    """The environment asks for something that cannot be done; the text says what to change."""


@dataclass(frozen=True)
class Order:
    """
    One demonstration.

    :param image: the photo's address or file
    :param photo: its content
    :param api_key: the key of a Segmind account; ``None``: the emulator
    :param api_url: where that account is, if not at Segmind's own address: an emulator of yours, a proxy
    :param keep: leave everything running at the end
    """

    image: str | Path
    photo: bytes
    api_key: str | None
    api_url: str | None
    keep: bool

    @classmethod
    def of_environment(cls, env: Mapping[str, str]) -> Order:
        """
        Read ``IMAGE``, ``KEEP``, ``SEGMIND_API_KEY`` and ``SEGMIND_API_URL``.

        :param env: the environment
        """
        wanted = env.get("IMAGE", "").strip()
        image = _image(wanted) if wanted else PHOTO
        # A key that happens to be in the environment spends no money by itself: only together with a photo.
        key = env.get("SEGMIND_API_KEY", "").strip() if wanted else ""
        return cls(
            image=image,
            photo=_read(image),
            api_key=key or None,
            api_url=env.get("SEGMIND_API_URL", "").strip() or None,
            keep=env.get("KEEP", "").strip().lower() not in {"", "0", "no", "false"},
        )

    @property
    def name(self) -> str:
        """The photo's file name."""
        path = self.image.name if isinstance(self.image, Path) else Path(urlsplit(self.image).path).name
        return path or "photo.jpg"


def _image(wanted: str) -> str | Path:
    if wanted.lower().startswith(("http://", "https://")):
        return wanted
    path = Path(wanted).expanduser().resolve()
    if not path.is_file():
        raise OrderError(f"IMAGE={wanted} is neither an https:// address nor a file.")
    if mimetypes.guess_type(path.name)[0] not in KINDS:
        raise OrderError(f"IMAGE={wanted} is no JPEG, PNG or WEBP file.")
    return path


def _read(image: str | Path) -> bytes:
    """Return the photo, for the picture of before and after; an address that is wrong shows here, before any cost."""
    if isinstance(image, Path):
        return image.read_bytes()
    try:
        answer = httpx.get(image, timeout=30, follow_redirects=True)
        answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OrderError(f"IMAGE={image} cannot be read: {error}") from error
    if not answer.headers.get("content-type", "").startswith("image/"):
        raise OrderError(f"IMAGE={image} is no picture but {answer.headers.get('content-type')}.")
    return answer.content
