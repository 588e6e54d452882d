"""
Write ``constraints/``.

That is, for each supported Airflow, the packages as they were when it was released, and once the lower bounds of our
own dependencies.

Run ``.venv/bin/python .ci/pin_versions.py [name ...]`` after a change of the dependencies in ``pyproject.toml`` or of
``RELEASES`` below. ``constraints.txt``, the newest versions, is renewed as its own first lines say.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PYTHON = "3.11"

RELEASES = {
    # name: the day after the release, and requirements besides those in pyproject.toml
    "airflow-2.11.2": ("2026-03-14", ["apache-airflow==2.11.2"]),
    "airflow-3.1.8": ("2026-03-11", ["apache-airflow==3.1.8"]),
    # The API server of 3.2.2 does not start with later versions of FastAPI.
    "airflow-3.2.2": ("2026-05-29", ["apache-airflow==3.2.2", "fastapi<0.137"]),
    # Airflow 2.11.0 allows universal-pathlib 0.3, but its ObjectStoragePath does not work with it.
    "lowest": ("2026-03-14", ["universal-pathlib>=0.2.2,<0.3"]),
}

TOOLS = ["hatchling", "editables", "hypothesis", "pytest", "pytest-timeout", "pytest-xdist"]
"""What the tests need besides the package; of the same day, as pytest's plugins come with Airflow's packages too."""

NEWEST = ["moto"]
"""Taken from constraints.txt, as the releases of those days compute wrong checksums of multipart uploads."""


def pinned(packages: list[str], path: Path) -> list[str]:
    """Return the pins of some packages in a file."""
    pins = path.read_text("utf-8")
    return [re.search(rf"^{package}==\S+", pins, re.MULTILINE)[0] for package in packages]  # type: ignore[index]


def pin(name: str) -> None:
    """Resolve one set of versions and write it."""
    day, requirements = RELEASES[name]
    lowest = name == "lowest"
    # The lower bound of moto is tested as well; of the tools, only that they work matters.
    more = (
        pinned(TOOLS, Path("constraints/airflow-2.11.2.txt"))
        if lowest
        else TOOLS + pinned(NEWEST, Path("constraints.txt"))
    )
    command = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "--quiet", "pyproject.toml", "-"]
    command += ["--extra=demo", "--extra=emulator", "--no-annotate", "--no-header", f"--python-version={PYTHON}"]
    command += [f"--exclude-newer={day}", *(f"--exclude-newer-package={tool}=2100-01-01" for tool in NEWEST)]
    command += ["--resolution=lowest-direct"] if lowest else []
    resolved = subprocess.run(  # noqa: S603 - our own arguments
        command, input="\n".join([*requirements, *more]), text=True, stdout=subprocess.PIPE, check=True
    ).stdout
    what = "The lower bounds of our own dependencies" if lowest else f"The packages as of the release of {name}"
    header = f"# {what}. Written by .ci/pin_versions.py, do not edit.\n"
    Path("constraints", f"{name}.txt").write_text(header + resolved, "utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:] or RELEASES:
        pin(name)
