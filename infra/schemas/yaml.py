"""Writes a plain document as YAML: so little that it needs no library."""

import json
import re
from typing import Any

PLAIN = re.compile(r"[A-Za-z_$][A-Za-z0-9_$./-]*")
RESERVED = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def as_yaml(document: dict[str, Any]) -> str:
    """Block style, two spaces a level; what is not a plain word is quoted as JSON has it."""
    return "\n".join(_lines(document)) + "\n"


def _lines(value: Any) -> list[str]:
    lines: list[str] = []
    if isinstance(value, dict):
        for key, item in value.items():
            lines += _entry(f"{_scalar(key)}:", item)
    else:
        for item in value:
            lines += _entry("-", item)
    return lines


def _entry(begin: str, item: Any) -> list[str]:
    if not isinstance(item, dict | list) or not item:
        return [f"{begin} {_scalar(item)}"]
    return [begin, *(f"  {line}" for line in _lines(item))]


def _scalar(value: Any) -> str:
    if isinstance(value, str) and PLAIN.fullmatch(value) and value.lower() not in RESERVED:
        return value
    return json.dumps(value, ensure_ascii=False)
