"""
Build the sdist and the wheel into ``dist/`` and check what a package index would show and a user would install.

``make package`` runs it. The wheel is built from the sdist, so the sdist is complete if this succeeds.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

DIST = Path("dist")
PACKAGE = "airflow_provider_segmind"


def problems_of(wheel: Path) -> list[str]:
    """Return what is wrong with a wheel, one sentence each."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = message_from_bytes(
            archive.read(next(name for name in names if name.endswith(".dist-info/METADATA")))
        )
    info = f"{wheel.name.partition('-py3')[0]}.dist-info"
    found = [
        f"{name} is missing."
        for name in (f"{PACKAGE}/py.typed", f"{info}/licenses/LICENSE", f"{info}/entry_points.txt")
        if name not in names
    ]
    found += [f"{name} should not be installed." for name in names if name.partition("/")[0] not in {PACKAGE, info}]
    found += [
        f"The long description has a link that a package index cannot follow: {target}"
        for target in re.findall(r"\]\(([^)\s]+)", metadata.get_payload())
        if not target.startswith(("https://", "#"))
    ]
    urls = {url.partition(",")[0] for url in metadata.get_all("Project-URL", [])}
    found += [f"[project.urls] lacks {name}." for name in ("Homepage", "Source", "Issues") if name not in urls]
    return found


def main() -> int:
    """Build and check; return the exit code."""
    shutil.rmtree(DIST, ignore_errors=True)
    for command in (["build", "--no-isolation", "--outdir", str(DIST)], ["twine", "check", "--strict", f"{DIST}/*"]):
        code = subprocess.run([sys.executable, "-m", *command], check=False).returncode  # noqa: S603 - our own arguments
        if code:
            return code
    [wheel] = DIST.glob("*.whl")
    problems = problems_of(wheel)
    for problem in problems:
        print(f"{wheel.name}: {problem}", file=sys.stderr)  # noqa: T201 - a script
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
