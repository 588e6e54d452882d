"""What the package promises to Airflow and to those who read it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import airflow
import jsonschema
import pytest
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

import airflow_provider_segmind
from airflow_provider_segmind.get_provider_info import get_provider_info
from airflow_provider_segmind.hooks.connection import SegmindSettings
from airflow_provider_segmind.hooks.segmind import SegmindHook
from tests import import_rules
from tests.import_rules import broken_rules, used_names

PACKAGE = Path(airflow_provider_segmind.__file__).parent


def test_the_provider_info_is_valid_by_airflows_schema():
    schema = Path(airflow.__file__).parent / "provider_info.schema.json"

    jsonschema.validate(get_provider_info(), json.loads(schema.read_text()))


def test_its_connection_type_is_valid_by_the_stricter_schema_of_providers():
    schema = json.loads((Path(airflow.__file__).parent / "provider.yaml.schema.json").read_text())

    jsonschema.validate(get_provider_info()["connection-types"], schema["properties"]["connection-types"])


def test_the_connection_form_hides_what_is_not_used():
    (form,) = [each for each in HookMetaService.hook_meta_data() if each.connection_type == "segmind"]

    assert form.standard_fields.login.hidden
    assert form.standard_fields.password.title == "API key"
    assert SegmindHook.get_ui_field_behaviour()["hidden_fields"] == ["login"]


def test_airflow_finds_the_provider_by_its_entry_point():
    (found,) = [point for point in entry_points(group="apache_airflow_provider") if "segmind" in point.value]

    assert found.load()()["package-name"] == "airflow-provider-segmind"


def test_every_module_that_the_provider_info_names_exists():
    info = get_provider_info()
    named = [
        module
        for kind in ("hooks", "operators", "triggers")
        for item in info[kind]
        for module in item["python-modules"]
    ]

    for module in named:
        __import__(module)
    assert info["connection-types"][0]["hook-class-name"] == f"{SegmindHook.__module__}.SegmindHook"


def test_the_form_has_a_field_for_each_setting():
    settings = {field.name for field in dataclasses.fields(SegmindSettings)} - {"api_key", "base_url"}

    assert set(get_provider_info()["connection-types"][0]["conn-fields"]) == settings


def test_parsing_a_dag_loads_nothing_heavy():
    heavy = {"boto3", "botocore", "aiohttp", "PIL", "fsspec", "airflow.providers.amazon", "cv2", "fastapi.routing"}
    code = (
        "import sys, airflow.providers.common.compat.sdk as sdk; sdk.BaseOperator; before = set(sys.modules)\n"
        "import airflow_provider_segmind.operators.bria, airflow_provider_segmind.operators.segmind\n"
        "print(*(set(sys.modules) - before))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert "airflow_provider_segmind.operators.bria" in loaded
    assert heavy.isdisjoint(loaded)
    assert not [name for name in loaded if name.startswith("airflow_provider_segmind.emulator")]


MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__init__.py"
}


@pytest.mark.parametrize("module", [module for module in MODULES if not module.startswith("emulator.")])
def test_a_module_imports_only_what_the_order_of_the_layers_allows(module):
    assert broken_rules(module, MODULES[module].read_text()) == []


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("emulator.")])
def test_the_emulator_imports_nothing_of_the_rest_of_the_package(module):
    imported = used_names(f"{import_rules.PACKAGE}.{module}", MODULES[module].read_text())

    ours = [name for name in imported if name.startswith(import_rules.PACKAGE)]
    assert [name for name in ours if not name.startswith(f"{import_rules.PACKAGE}.emulator")] == []


def test_only_the_emulators_package_has_code_in_its_init_file():
    folders = ("api", "files", "jobs", "hooks", "triggers", "operators")

    assert [list(used_names(name, (PACKAGE / name / "__init__.py").read_text())) for name in folders] == [[]] * 6


def test_every_module_in_the_order_exists():
    assert [module for module in import_rules.RANKS if module not in {*MODULES, "__version__"}] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("api.gateway", "from airflow_provider_segmind.api.parsing import refusal"),
        ("api.gateway", "from airflow_provider_segmind.api import parsing"),
        ("api.gateway", "import airflow_provider_segmind.api.parsing as parsing"),
        ("api.gateway", "from .parsing import refusal"),
        ("api.gateway", "from ..exceptions import SegmindError"),
        ("api.gateway", "import json, logging"),
        ("hooks.segmind", "from airflow_provider_segmind.jobs.run import execute"),
        ("hooks.transport", "import httpx"),
        ("get_provider_info", "from airflow_provider_segmind import __version__"),
        ("exceptions", "from airflow.exceptions import AirflowException"),
        ("files.formats", "from PIL import Image"),
    ],
)
def test_the_checker_allows_what_points_down(module, source):
    assert broken_rules(module, source) == []


@pytest.mark.parametrize(
    ("module", "source", "named"),
    [
        pytest.param("files.source", "from airflow_provider_segmind.hooks import segmind", "hooks.segmind", id="above"),
        pytest.param(
            "api.parsing", "from airflow_provider_segmind.api.gateway import get", "api.gateway.get", id="order"
        ),
        pytest.param(
            "exceptions",
            "from airflow_provider_segmind.get_provider_info import x",
            "get_provider_info.x",
            id="same row",
        ),
        pytest.param("files.source", "def f():\n    import airflow_provider_segmind.jobs.run", "jobs.run", id="lazy"),
        pytest.param("files.source", "from ..jobs.run import execute", "jobs.run.execute", id="relative"),
        pytest.param("api.parsing", "from . import gateway", "api.gateway", id="relative module"),
        pytest.param(
            "jobs.run", "if TYPE_CHECKING:\n    from ..operators.bria import X", "operators.bria.X", id="types"
        ),
        pytest.param(
            "jobs.run", "import_module('airflow_provider_segmind.operators.bria')", "operators.bria", id="text"
        ),
        pytest.param("jobs.run", "import_module(name)", "<computed>", id="computed"),
        pytest.param("hooks.segmind", "from airflow_provider_segmind.emulator import X", "emulator.X", id="emulator"),
        pytest.param("hooks.segmind", "import airflow_provider_segmind.emulator", "emulator", id="whole emulator"),
        pytest.param(
            "get_provider_info", "from airflow_provider_segmind.hooks.segmind import X", "hooks.segmind.X", id="info"
        ),
    ],
)
def test_the_checker_finds_an_import_against_the_order(module, source, named):
    assert broken_rules(module, source) == [f"airflow_provider_segmind.{named}"]


@pytest.mark.parametrize(
    ("module", "source", "named"),
    [
        ("hooks.connection", "import httpx", "httpx"),
        ("hooks.connection", "from http.client import HTTPConnection", "http.client.HTTPConnection"),
        ("files.s3", "def f():\n    import urllib3", "urllib3"),
        ("files.source", "from urllib.request import urlopen", "urllib.request.urlopen"),
        ("api.gateway", "from airflow.sdk import BaseHook", "airflow.sdk.BaseHook"),
        ("api.download", "from pathlib import Path", "pathlib.Path"),
        ("api.download", "import os.path", "os.path"),
        ("api.download", "def f():\n    from PIL import Image", "PIL.Image"),
        ("api.download", "open('result.png')", "open"),
    ],
)
def test_the_checker_finds_a_library_that_does_not_belong_there(module, source, named):
    assert broken_rules(module, source) == [named]


def test_the_checker_wants_a_place_for_a_new_module():
    assert broken_rules("api.surprise", "") == ["api.surprise has no place in ORDER"]
