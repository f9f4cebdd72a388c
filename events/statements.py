"""What answering workers say to each other: which places of engines they lend, want and use.

What may be relied on is said in `processors.answers.scheduling.lending`. A later statement of a
worker replaces an earlier one whole.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from events.codec import Undecodable


@dataclass(frozen=True, slots=True)
class Loan:
    """Of one engine, to one worker. `number` grows with each change, so that an answer to an
    older one is told from an answer to this one."""

    number: int
    places: int


@dataclass(frozen=True, slots=True)
class Debt:
    """What a borrower says of a loan: the number it has read, and what it still uses."""

    number: int
    used: int
    void: bool = False
    """It is not to be counted on any more: a new one is to be made."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What a worker says to all others. Engines and workers by their names."""

    worker: str
    wanted: Mapping[str, int] = field(default_factory=dict)
    """By engine: places that it could use more."""
    lent: Mapping[str, Mapping[str, Loan]] = field(default_factory=dict)
    """By engine and borrower."""
    owed: Mapping[str, Mapping[str, Debt]] = field(default_factory=dict)
    """By engine and owner."""
    number: int = 0
    """Of this worker's statements."""

    @property
    def matters(self) -> bool:
        """To others."""
        return bool(self.wanted or self.lent or self.owed)


def encode_statement(statement: Statement) -> bytes:
    return json.dumps(
        {
            "worker": statement.worker,
            "number": statement.number,
            "wanted": dict(statement.wanted),
            "lent": {
                engine: {other: [loan.number, loan.places] for other, loan in loans.items()}
                for engine, loans in statement.lent.items()
            },
            "owed": {
                engine: {
                    owner: [debt.number, debt.used, int(debt.void)] for owner, debt in debts.items()
                }
                for engine, debts in statement.owed.items()
            },
        },
        separators=(",", ":"),
    ).encode()


def decode_statement(value: bytes | None) -> Statement:
    """The inverse. Raises Undecodable."""
    try:
        said = json.loads(value or b"")
        return Statement(
            worker=str(said["worker"]),
            wanted={str(engine): int(number) for engine, number in said["wanted"].items()},
            lent=_nested(said["lent"], lambda number, places: Loan(int(number), int(places))),
            owed=_nested(
                said["owed"],
                lambda number, used, void: Debt(int(number), int(used), void=bool(void)),
            ),
            number=int(said["number"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise Undecodable(f"not a worker's statement: {error!r}") from error


def _nested(said: Mapping[str, Any], made: Callable[..., Any]) -> dict[str, dict[str, Any]]:
    return {
        str(engine): {str(worker): made(*values) for worker, values in each.items()}
        for engine, each in said.items()
    }
