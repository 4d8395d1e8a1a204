"""The settings as `rigmesh settings` shows them."""

import re

from services.settings import Settings

PASSWORD = re.compile(r"(?<=://)([^/@:]*):[^/@]*@|(?<=password=)[^&\s]+")


def describe(settings: Settings) -> list[dict[str, str]]:
    """One entry a setting: `name` of its variable, `value` in force, `default` and `meaning` (with its unit)."""
    return [
        {
            "name": f"RIGMESH_{name.upper()}",
            "value": _text(getattr(settings, name)),
            "default": _text(field.default),
            "meaning": field.description or "",
        }
        for name, field in Settings.model_fields.items()
    ]


def _text(value: object) -> str:
    if value is None:
        return ""
    text = ",".join(value) if isinstance(value, tuple) else str(value)
    return PASSWORD.sub(lambda match: f"{match[1]}:***@" if match[1] is not None else "***", text)
