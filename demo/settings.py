"""The settings of the demo, read from environment variables."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

PHOTO = Path(__file__).parent / "photos" / "astronaut.jpg"
KINDS = {"image/jpeg", "image/png", "image/webp"}


class SettingsError(Exception):
    """A setting is unusable. The text says what to change."""


@dataclass(frozen=True)
class Settings:
    """
    The settings of one demo.

    :param image: the photo, as a URL or a file
    :param photo: its content
    :param api_key: the key of a Segmind account, or ``None`` for the emulator
    :param api_url: the base URL for that account, or ``None`` for Segmind's own
    :param keep: whether to leave everything running at the end
    """

    image: str | Path
    photo: bytes
    api_key: str | None
    api_url: str | None
    keep: bool

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Settings:
        """
        Read ``IMAGE``, ``KEEP``, ``SEGMIND_API_KEY`` and ``SEGMIND_API_URL``.

        :param env: the environment variables
        :raises SettingsError: IMAGE cannot be used
        """
        wanted = env.get("IMAGE", "").strip()
        image = _image(wanted) if wanted else PHOTO
        # A key that happens to be in the environment must not cost money, so it is used only if IMAGE is set too.
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
        """The file name of the photo."""
        path = self.image.name if isinstance(self.image, Path) else Path(urlsplit(self.image).path).name
        return path or "photo.jpg"


def _image(wanted: str) -> str | Path:
    if wanted.lower().startswith(("http://", "https://")):
        return wanted
    path = Path(wanted).expanduser().resolve()
    if not path.is_file():
        raise SettingsError(f"IMAGE={wanted} is neither a file nor an https:// address.")
    if mimetypes.guess_type(path.name)[0] not in KINDS:
        raise SettingsError(f"IMAGE={wanted} must be a JPEG, PNG or WEBP file.")
    return path


def _read(image: str | Path) -> bytes:
    """Return the photo for the before-and-after picture. A wrong URL is noticed here, before anything is paid for."""
    if isinstance(image, Path):
        return image.read_bytes()
    try:
        response = httpx.get(image, timeout=30, follow_redirects=True)
        response.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SettingsError(f"IMAGE={image} cannot be read: {error}") from error
    content_type = response.headers.get("content-type", "")
    if not content_type.startswith("image/"):
        raise SettingsError(f"IMAGE={image} is not an image. Its content type is {content_type!r}.")
    return response.content
