"""What Airflow's provider manager reads."""

from __future__ import annotations

from typing import Any

from airflow_provider_segmind import __version__

FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden_fields": ["login"],
    "relabeling": {"password": "API key", "host": "Base URL"},
    "placeholders": {"host": "https://api.segmind.com (the default)", "password": "SG_..."},
}

FIELDS: dict[str, tuple[str, list[str], str]] = {
    "requests_per_minute": ("Requests per minute", ["integer", "null"], "The account's rate limit: Free 5, Pro 50."),
    "connect_timeout": ("Connect timeout", ["number", "null"], "Seconds; 5 by default."),
    "read_timeout": ("Read timeout", ["number", "null"], "Seconds; 30 by default."),
    "history_url": ("History URL", ["string", "null"], "Of the request history, if not Segmind's."),
    "storage_url": ("Storage URL", ["string", "null"], "Of the upload, if not Segmind's."),
    "output_hosts": ("Output hosts", ["string", "null"], "More hosts that result files may come from, by commas."),
    "max_result_mb": ("Largest result", ["number", "null"], "MiB; 1024 by default."),
    "verify": ("Verify TLS", ["string", "null"], "true, false, or the path of a CA bundle."),
}
"""The extra's fields: label, JSON types, description."""


def conn_fields() -> dict[str, Any]:
    """Return the extra's fields as the provider info wants them."""
    return {
        name: {"label": label, "description": description, "schema": {"type": types}}
        for name, (label, types, description) in FIELDS.items()
    }


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description; ``package-name`` must be the canonical one, or every airflow command fails."""
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
            {"integration-name": integration, "python-modules": ["airflow_provider_segmind.triggers.segmind"]}
        ],
        "connection-types": [
            {
                "hook-class-name": "airflow_provider_segmind.hooks.segmind.SegmindHook",
                "hook-name": "Segmind",
                "connection-type": "segmind",
                # Written with hyphens here, and with underscores where the hook itself is asked.
                "ui-field-behaviour": {name.replace("_", "-"): value for name, value in FIELD_BEHAVIOUR.items()},
                "conn-fields": conn_fields(),
            }
        ],
    }
