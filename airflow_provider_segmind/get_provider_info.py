"""What Airflow's provider manager reads."""

from __future__ import annotations

from typing import Any

from airflow_provider_segmind import __version__
from airflow_provider_segmind.hooks.connection_form import FIELD_BEHAVIOUR, conn_fields


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
