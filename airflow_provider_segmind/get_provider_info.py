"""The provider's description for Airflow, which loads this module while it is itself being imported."""

from __future__ import annotations

from typing import Any

from airflow_provider_segmind import __version__

FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden_fields": ["login"],
    "relabeling": {"password": "API key", "host": "Base URL"},
    "placeholders": {"host": "https://api.segmind.com (the default)", "password": "SG_..."},
}

FIELDS: dict[str, tuple[str, list[str], str]] = {
    "requests_per_minute": (
        "Requests per minute",
        ["number", "null"],
        "The share of the account's rate limit that one process may use (Free plan: 5, Pro plan: 50).",
    ),
    "connect_timeout": ("Connect timeout", ["number", "null"], "In seconds; default: 5."),
    "read_timeout": ("Read timeout", ["number", "null"], "In seconds; default: 30."),
    "history_url": ("History URL", ["string", "null"], "URL of the request history, if it is not Segmind's own."),
    "storage_url": ("Storage URL", ["string", "null"], "URL for uploads, if it is not Segmind's own."),
    "output_hosts": ("Output hosts", ["string", "null"], "More hosts that may serve result files, comma-separated."),
    "max_result_mb": ("Largest result", ["number", "null"], "In MiB; default: 1024."),
    "verify": ("Verify TLS", ["string", "null"], "true, false, or the path of a CA bundle."),
    "ledger": (
        "Ledger",
        ["string", "null"],
        "Where paid jobs are remembered for all tasks: a prefix such as s3://bucket/ledger/.",
    ),
}
"""The extra fields of the connection form: label, JSON types, description."""

EXTRA_NAMES = frozenset(FIELDS)
"""All fields that the extra may have."""


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description. Without the canonical ``package-name``, every airflow command fails."""
    integration = "Segmind"
    return {
        "package-name": "airflow-provider-segmind",
        "name": "Segmind",
        "description": "Run Segmind's AI models as tasks: `Segmind <https://www.segmind.com/>`__.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": integration,
                "external-doc-url": "https://www.segmind.com/models/bria-erase-foreground/api",
                "tags": ["service"],
            }
        ],
        "hooks": [{"integration-name": integration, "python-modules": ["airflow_provider_segmind.hooks.segmind"]}],
        "operators": [
            {
                "integration-name": integration,
                "python-modules": [
                    "airflow_provider_segmind.operators.bria",
                    "airflow_provider_segmind.operators.segmind",
                ],
            }
        ],
        "triggers": [
            {
                "integration-name": integration,
                "python-modules": [
                    "airflow_provider_segmind.triggers.segmind",
                    "airflow_provider_segmind.triggers.wave",
                ],
            }
        ],
        "connection-types": [
            {
                "hook-class-name": "airflow_provider_segmind.hooks.segmind.SegmindHook",
                "hook-name": "Segmind",
                "connection-type": "segmind",
                # The provider info writes these names with hyphens, the hook's own method with underscores.
                "ui-field-behaviour": {name.replace("_", "-"): value for name, value in FIELD_BEHAVIOUR.items()},
                "conn-fields": {
                    name: {"label": label, "description": description, "schema": {"type": types}}
                    for name, (label, types, description) in FIELDS.items()
                },
            }
        ],
    }
