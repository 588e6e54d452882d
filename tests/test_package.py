"""What the package promises to Airflow and to those who read it."""

from __future__ import annotations

import ast
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

    assert "airflow_provider_segmind.operators.job" in loaded
    assert heavy.isdisjoint(loaded)
    assert not [name for name in loaded if name.startswith("airflow_provider_segmind.emulator")]


FLOORS = {
    "exceptions": 0,
    "api": 1,
    "hooks": 2,
    "storage": 2,
    "triggers": 3,
    "operators": 4,
    "get_provider_info": 5,
}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    place = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    imported = [
        name.removeprefix("airflow_provider_segmind.").partition(".")[0]
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
        if name.startswith("airflow_provider_segmind.")
    ]
    if place == "emulator":
        assert set(imported) <= {"emulator"}
    elif place in FLOORS:
        assert all(FLOORS[name] <= FLOORS[place] for name in imported)


def test_the_apis_rules_know_neither_sockets_nor_airflow():
    for path in (PACKAGE / "api").glob("*.py"):
        roots = {
            (node.module or "").partition(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom)
        } | {
            alias.name.partition(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert roots.isdisjoint({"httpx", "airflow", "asyncio", "socket", "aiohttp", "requests"}), path.name
