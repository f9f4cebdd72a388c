"""What a check of `thalweg doctor` gives back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from infra.settings import Settings

ASK_SECONDS_MAX = 5
"""For one answer of a server: a person waits."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `todo` is empty if it is well."""

    what: str
    todo: str = ""


class Check(Protocol):
    """Looks at one thing."""

    __name__: str

    def __call__(self, settings: Settings, /) -> Iterator[Finding]: ...
