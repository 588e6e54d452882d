"""What the tests of operators with a ledger in a folder read and change there."""

from __future__ import annotations

import json
from pathlib import Path


def entries(folder: Path):
    return [json.loads(path.read_text()) for path in folder.glob("*.json")]


def change_entry(folder: Path, **fields):
    (path,) = folder.glob("*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
