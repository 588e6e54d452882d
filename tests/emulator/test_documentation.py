from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

from airflow_provider_segmind.emulator.fault_effects import EFFECTS
from airflow_provider_segmind.emulator.http_messages import REQUEST_KINDS
from airflow_provider_segmind.emulator.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "emulator.md"


def test_every_option_is_documented_with_its_default():
    rows = dict(re.findall(r"^\| `--([a-z-]+)` \| (.*?) \|", PAGE.read_text(), re.MULTILINE))
    fields = {field.name.replace("_", "-"): field.default for field in dataclasses.fields(Settings)}
    assert set(rows) == set(fields)
    for name, default in fields.items():
        if default is not None and name != "port":
            assert rows[name] == f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def test_every_fault_is_documented_with_its_default_kinds_of_request():
    table = PAGE.read_text().partition("| fault | strikes")[2]
    rows = re.findall(r"^\| `([a-z_]+)` \| ((?:any|`\w+`)(?:, `\w+`)*) \|", table, re.MULTILINE)
    assert {name: tuple(re.findall(r"\w+", strikes)) for name, strikes in rows} == {
        name: effect.on for name, effect in EFFECTS.items()
    }


def test_every_kind_of_request_is_documented():
    (sentence,) = re.findall(r"under these kinds: (.*?)\.\n", PAGE.read_text(), re.DOTALL)
    assert tuple(re.findall(r"`(\w+)`", sentence)) == REQUEST_KINDS


def test_the_example_tests_pass(tmp_path):
    (example,) = [code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "import" in code]
    (tmp_path / "test_example.py").write_text(example)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "3 passed" in done.stdout, done.stdout + done.stderr
