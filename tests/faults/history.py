"""What each client invoked and saw, in the order in which it happened: the checker's first input.

An operation is invoked once and has one outcome: `ok` (accepted), `fail` (refused: it never takes
effect) or `unknown` (nobody was told: it may have taken effect, once). A stream that is read has a
`saw` for each chunk. A `mark` is what the runner did. As JSONL it is what a person looks at first.
"""

import itertools
import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class Kind(StrEnum):
    INVOKE = "invoke"
    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "unknown"
    SAW = "saw"
    MARK = "mark"


OUTCOMES = frozenset({Kind.OK, Kind.FAIL, Kind.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of a history."""

    at: float
    """Seconds since the case began, by the monotonic clock."""
    client: int
    op: int
    """Which operation; 0: none."""
    kind: Kind
    what: str
    """start, post, rename, cancel, read, stream; of a mark: strike, healed, quiet."""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class History:
    """Grows while a case runs."""

    happenings: list[Happening] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    _ops: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def invoke(self, client: int, what: str, **facts: Any) -> int:
        op = next(self._ops)
        self._add(client, op, Kind.INVOKE, what, facts)
        return op

    def outcome(self, client: int, op: int, kind: Kind, what: str, **facts: Any) -> None:
        self._add(client, op, kind, what, facts)

    def saw(self, client: int, op: int, **facts: Any) -> None:
        self._add(client, op, Kind.SAW, "stream", facts)

    def mark(self, what: str, **facts: Any) -> None:
        self._add(0, 0, Kind.MARK, what, facts)

    def _add(self, client: int, op: int, kind: Kind, what: str, facts: dict[str, Any]) -> None:
        at = time.monotonic() - self.began
        self.happenings.append(Happening(at, client, op, kind, what, facts))

    def write(self, path: Path) -> None:
        keep_text(path, "".join(f"{json.dumps(asdict(one))}\n" for one in self.happenings))


def keep_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def ended_answers(happenings: Iterable[Happening]) -> set[str]:
    """Answers whose end a client has seen."""
    return {one.facts["answer"] for one in happenings if "end" in one.facts}


def accepted_answers(happenings: Iterable[Happening]) -> set[str]:
    """Answers that a client knows to be asked for."""
    posts = [one for one in happenings if one.kind is Kind.OK and one.what == "post"]
    return {str(json.loads(one.facts["body"])["answer"]) for one in posts}


def read(path: Path) -> list[Happening]:
    """A history that was written."""
    return list(parsed(path.read_text().splitlines()))


def parsed(lines: Iterable[str]) -> Iterable[Happening]:
    for line in lines:
        fields = json.loads(line)
        yield Happening(**{**fields, "kind": Kind(fields["kind"])})
