"""The chaos run and the package agree on the functions at which task processes die."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
import textwrap
from importlib.util import find_spec

import pytest

from chaos.environment import REPOSITORY, SETTINGS
from chaos.plan import BATCH_POINTS, POINTS
from chaos.seams import PACKAGE, SEAMS, WRITES, find_function

MARK = re.compile(r"Chaos seam: ([a-z_]+(?:, [a-z_]+)*)")

each_seam = pytest.mark.parametrize("seam", SEAMS, ids=lambda seam: f"{seam.name} {seam.marked_function}")


@each_seam
def test_the_function_of_each_seam_exists(seam):
    assert callable(find_function(seam.name))


@each_seam
def test_the_package_marks_each_seam_with_its_points(seam):
    source = inspect.getsource(find_function(seam.marked_function))
    marked = {point for points in MARK.findall(source) for point in points.split(", ")}
    assert marked == set(seam.points), f"{seam.marked_function} must have a line 'Chaos seam: {', '.join(seam.points)}'"


@pytest.mark.parametrize("seam", [seam for seam in SEAMS if seam.caller], ids=lambda seam: f"{seam.name} {seam.caller}")
def test_an_imported_or_inherited_seam_is_marked_where_it_is_called(seam):
    called = set()
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(find_function(seam.caller))))):
        if isinstance(node, ast.Call):
            called.add(ast.unparse(node.func).rpartition(".")[2])
    assert re.split(r"[:.]", seam.name)[-1] in called


def test_every_point_has_a_seam():
    batch_points = {re.sub("^(before|after)_", "", point) for point in BATCH_POINTS}
    assert {point for seam in SEAMS for point in seam.points} == {*POINTS, *batch_points}


def test_every_mark_in_the_package_is_that_of_a_seam():
    sources = (path.read_text("utf-8") for path in (REPOSITORY / PACKAGE).rglob("*.py"))
    marked = {point for source in sources for points in MARK.findall(source) for point in points.split(", ")}
    assert marked == {point for seam in SEAMS for point in seam.points}


def test_the_server_that_task_processes_are_forked_from_can_import_what_it_preloads():
    """It would ignore an ImportError, and every task process would have to import everything itself."""
    module = SETTINGS["AIRFLOW__CORE__MP_FORKSERVER_PRELOAD"]
    assert find_spec(module)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", f"import {module}"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_write_of_a_document_is_a_seam():
    """A batch must die before and after each."""
    writing = set()
    for path in (REPOSITORY / PACKAGE / "jobs").glob("*.py"):
        for name, function in _functions(ast.parse(path.read_text("utf-8"))):
            if re.search(r"documents\.(create|replace|write)\(", ast.unparse(function)):
                writing.add(f"jobs.{path.stem}:{name}")
    assert writing == {seam.caller for seam in WRITES}


def _functions(tree):
    """Yield the functions and methods of a module with their names."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{name}", function) for name, function in _functions(node))
        elif isinstance(node, ast.FunctionDef):
            yield node.name, node
