"""Which tests pytest-xdist keeps together in one worker."""

from __future__ import annotations

from pathlib import PurePath

import pytest

PROCESSES = "tests/airflow_processes"
OLDER = "tests/older_airflow"
OWN_AIRFLOW = {"test_commands.py", "test_demo.py"}
NO_AIRFLOW = {"test_airflow_api.py", "test_stack.py"}


def group(nodeid: str) -> str:
    """
    Return the name that a test has in common with those that run in the same worker, one after another.

    The tests on real Airflow share one, so one worker must run them all. Those that start an Airflow of their own form
    a second group: more than two at once would keep two cores too busy. All other tests are independent.

    :param nodeid: the test, as ``path/of/file.py::name``
    """
    path = PurePath(nodeid.partition("::")[0])
    if path.is_relative_to(OLDER):
        return "older Airflow"
    if not path.is_relative_to(PROCESSES) or path.name in NO_AIRFLOW:
        return nodeid
    return "own Airflow" if path.name in OWN_AIRFLOW else "shared Airflow"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Schedule by :func:`group`. The marker ``xdist_group`` has no effect with pytest 9.2 and pytest-xdist 3.8."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    return Scheduling(config, log)
