"""A history and what was stored, sorted by what the checks ask about."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.history import OUTCOMES, Happening, Kind
from tests.faults.stored import Kept, Stored

COMMANDS = frozenset({"start", "post", "rename", "cancel", "stale"})
KEY = "key:"


@dataclass
class Operation:
    """An invocation with its outcome; a stream with what it saw."""

    invoked: Happening
    outcome: Happening | None = None
    saw: list[Happening] = field(default_factory=list)

    @property
    def what(self) -> str:
        return self.invoked.what

    @property
    def kind(self) -> Kind:
        return Kind.UNKNOWN if self.outcome is None else self.outcome.kind

    @property
    def code(self) -> str:
        """Why it was not accepted."""
        if self.kind is Kind.OK:
            return ""
        return "cancelled" if self.outcome is None else str(self.outcome.facts.get("code", ""))

    @property
    def body(self) -> dict[str, Any]:
        assert self.outcome is not None
        found: dict[str, Any] = json.loads(self.outcome.facts["body"])
        return found


@dataclass
class View:
    operations: list[Operation]
    marks: list[Happening]
    stored: Stored
    own_key: str

    def __post_init__(self) -> None:
        self.by_command: dict[str, list[Kept]] = defaultdict(list)
        self.by_stream: dict[str, list[Kept]] = defaultdict(list)
        self.ends: dict[str, list[Kept]] = defaultdict(list)
        for event in self.stored.events:
            self.by_command[event.command].append(event)
            self.by_stream[event.stream].append(event)
            if event.what == "ended":
                self.ends[event.facts["answer"]].append(event)
        self.attempts: dict[str, list[Operation]] = defaultdict(list)
        for operation in self.operations:
            if operation.what in COMMANDS:
                self.attempts[operation.invoked.facts["key"]].append(operation)

    def is_a_strangers(self, stream: str) -> bool:
        """Whether no client of the history, nor the fault under its own keys, began this stream."""
        key = self.by_stream[stream][0].command.removeprefix(KEY)
        return key not in self.attempts and not key.startswith(self.own_key)

    @property
    def healed_at(self) -> float:
        """When the fault was over: before that nobody is late."""
        return max((mark.at for mark in self.marks if mark.what == "healed"), default=0.0)


def view(history: Sequence[Happening], stored: Stored, own_key: str) -> View:
    operations: dict[int, Operation] = {}
    marks = []
    for one in history:
        if one.kind is Kind.MARK:
            marks.append(one)
        elif one.kind is Kind.INVOKE:
            operations[one.op] = Operation(one)
        elif one.kind in OUTCOMES:
            operations[one.op].outcome = one
        else:
            operations[one.op].saw.append(one)
    return View(list(operations.values()), marks, stored, own_key)
