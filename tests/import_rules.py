"""
Which module of the package may import what, and a checker that holds a module's source text against it.

Source text also shows imports inside functions, relative ones and those under ``TYPE_CHECKING``, which do not show when
the package is imported.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

PACKAGE = "airflow_provider_segmind"

ORDER = (
    ("__version__",),
    ("get_provider_info", "exceptions"),
    ("api.redaction",),
    ("api.models",),
    ("api.job_times", "api.learned_limit", "api.granted_slots"),
    ("api.poll_schedule", "api.rate_limit"),
    ("api.operation", "api.wave_pacing"),
    ("api.parsing",),
    ("api.gateway",),
    ("api.history_pages",),
    ("api.history",),
    ("api.download",),
    ("api.polling",),
    ("api.wave",),
    ("files.formats",),
    ("files.location",),
    ("files.s3_client",),
    ("files.s3",),
    ("files.provenance",),
    ("files.source", "files.walk"),
    ("files.naming",),
    ("files.destination",),
    ("files.list_files",),
    ("files.listing",),
    ("files.document_store",),
    ("files.s3_documents",),
    ("files.documents",),
    ("jobs.checkpoint",),
    ("jobs.collect",),
    ("jobs.acquire",),
    ("jobs.ledger_entry",),
    ("jobs.ledger",),
    ("jobs.delivery",),
    ("jobs.descriptions",),
    ("jobs.run",),
    ("jobs.journal",),
    ("jobs.batch_budget", "jobs.batch_plan", "jobs.batch_state", "jobs.batch_threads"),
    ("jobs.batch_item", "jobs.batch_progress", "jobs.batch_description"),
    ("jobs.batch_submits",),
    ("jobs.batch",),
    ("hooks.connection",),
    ("hooks.transport",),
    ("hooks.drivers",),
    ("hooks.session",),
    ("hooks.segmind",),
    ("triggers.segmind",),
    ("triggers.wave",),
    ("operators.parameters",),
    ("operators.base",),
    ("operators.job", "operators.batch"),
    ("operators.segmind", "operators.bria"),
)
"""A module imports modules of earlier rows only. A new module needs a place here."""

RANKS = {module: rank for rank, row in enumerate(ORDER) for module in row}

FORBIDDEN = {
    "api": ("airflow", "asyncio", "io", "os", "pathlib", "PIL", "shutil", "socket", "tempfile", "open"),
    "": ("aiohttp", "http.client", "httpcore", "httpx", "requests", "urllib.request.urlopen", "urllib3"),
}
"""
What a package must not import. The API's rules know neither Airflow nor files nor sockets, and only ``HTTP_MODULES``
know an HTTP library. ``open`` is a builtin, so calling it counts.
"""

HTTP_MODULES = {
    "hooks.transport",  # every request to Segmind
    "hooks.segmind",  # the type of the client that get_conn() returns
}


def used_names(module: str, source: str) -> Iterator[str]:
    """
    Yield the full name of everything that a module imports, and ``open`` where it is called.

    ``from a import b`` yields ``a.b``, because ``b`` may be a module.

    :param module: the module's full name, which relative imports start from
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: -node.level] if node.level else []
            start = ".".join([*parents, node.module or ""]).strip(".")
            yield from (f"{start}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call):
            function = ast.unparse(node.func)
            if function == "open":
                yield "open"
            elif function.rpartition(".")[2] in ("import_module", "__import__", "import_string"):
                yield node.args[0].value if isinstance(node.args[0], ast.Constant) else f"{PACKAGE}.<computed>"


def broken_rules(module: str, source: str) -> list[str]:
    """
    Return what a module imports against the rules; an empty list if there is nothing.

    :param module: the module's name below the package, such as ``api.gateway``
    """
    if module not in RANKS:
        return [f"{module} has no place in ORDER"]
    broken = []
    for name in used_names(f"{PACKAGE}.{module}", source):
        if name == PACKAGE or name.startswith(f"{PACKAGE}."):
            inside = name.removeprefix(PACKAGE).strip(".")
            target = next((each for each in (inside, inside.rpartition(".")[0]) if each in RANKS), None)
            if target is None or RANKS[target] >= RANKS[module]:
                broken.append(name)
        else:
            forbidden = FORBIDDEN.get(module.partition(".")[0], ()) + (() if module in HTTP_MODULES else FORBIDDEN[""])
            if any(f"{name}.".startswith(f"{each}.") for each in forbidden):
                broken.append(name)
    return broken
