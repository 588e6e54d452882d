"""How the connection looks in Airflow's form: one description, for the provider info and for Airflow before 3.2."""

from __future__ import annotations

from typing import Any

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


def form_widgets() -> dict[str, Any]:
    """Return the extra's fields as form widgets; needs what only an Airflow with the old form has."""
    from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
    from flask_babel import lazy_gettext
    from wtforms import StringField

    return {
        name: StringField(lazy_gettext(label), widget=BS3TextFieldWidget(), description=description)
        for name, (label, _, description) in FIELDS.items()
    }
