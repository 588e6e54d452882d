"""The pytest plugin and the import of the package, as users see them."""

from __future__ import annotations

import json
import subprocess
import sys

import httpx
import pytest


def test_the_fixture_is_available_without_being_declared(segmind_emulator):
    connection = json.loads(segmind_emulator.connection)
    response = httpx.get(
        f"{connection['host']}/v1/get-user-credits", headers={"x-api-key": connection["password"]}, trust_env=False
    )
    assert response.json() == {"credits": 100.0}
    assert connection["conn_type"] == "segmind"


@pytest.mark.parametrize("number", [1, 2])
def test_each_test_gets_a_new_emulator(segmind_emulator, number):
    assert segmind_emulator.requests.total == 0
    httpx.get(f"{segmind_emulator.url}/nowhere", trust_env=False)


@pytest.mark.segmind_emulator(key="SG_mine", credits=3)
def test_a_marker_sets_the_options(segmind_emulator):
    assert segmind_emulator.key == "SG_mine"
    assert segmind_emulator.settings.credits == 3
    assert segmind_emulator.settings.job_sigma == 0


@pytest.mark.segmind_emulator(job_seconds=4)
class TestNested:
    @pytest.mark.segmind_emulator(job_seconds=5)
    def test_the_closest_marker_wins(self, segmind_emulator):
        assert segmind_emulator.settings.job_seconds == 5


@pytest.mark.parametrize(
    "module", ["airflow_provider_segmind.emulator", "airflow_provider_segmind.emulator.pytest_plugin"]
)
def test_importing_the_plugin_imports_no_large_package(module):
    heavy = "{'cv2', 'numpy', 'uvicorn', 'starlette', 'httpx', 'airflow'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    from airflow_provider_segmind import emulator

    with pytest.raises(AttributeError, match="Emulateur"):
        emulator.Emulateur  # noqa: B018


def test_an_emulator_that_was_not_started_has_no_url():
    from airflow_provider_segmind.emulator import SegmindEmulator

    for name in ("url", "jobs", "connection"):
        with pytest.raises(RuntimeError, match="has not been started"):
            getattr(SegmindEmulator(), name)


def test_the_emulator_and_the_package_do_not_import_each_other():
    from pathlib import Path

    import airflow_provider_segmind

    package = Path(airflow_provider_segmind.__file__).parent
    for path in package.rglob("*.py"):
        inside = path.is_relative_to(package / "emulator")
        for line in path.read_text().splitlines():
            if line.strip().startswith(("import airflow_provider_segmind", "from airflow_provider_segmind")):
                assert ("airflow_provider_segmind.emulator" in line) == inside, f"{path}: {line}"
