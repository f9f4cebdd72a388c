"""What a part has found, as lines of a table: what, got, aim, and whether it was reached."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from tests.bench.measure import Spread


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    got: str
    aim: str = ""
    reached: bool | None = None

    @property
    def aimed(self) -> str:
        if self.reached is None:
            return self.aim
        return f"{self.aim}: {'reached' if self.reached else '**missed**'}"


def at_most(what: str, seconds: float, aim: float, got: str = "", name: str = "") -> Row:
    """A time that should be short; `name` says which figure of several the aim is about."""
    return Row(
        what, got or duration(seconds), f"{name} {duration(aim)} or less".strip(), seconds <= aim
    )


def at_least(what: str, figure: float, aim: float, unit: str, got: str = "") -> Row:
    return Row(what, got or f"{figure:,.0f} {unit}", f"{aim:,.0f} {unit} or more", figure >= aim)


def duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1_000:.1f} ms"


def spread(seconds: Spread) -> str:
    return f"p50 {duration(seconds.p50)}, p95 {duration(seconds.p95)}, p99 {duration(seconds.p99)}"


def table(title: str, found: Sequence[Row]) -> Table:
    made = Table(title=title)
    for heading in ("what", "got", "aim", ""):
        made.add_column(heading)
    for row in found:
        mark = {True: "[green]reached", False: "[red]missed", None: ""}[row.reached]
        made.add_row(row.what, row.got, row.aim, mark)
    return made


def markdown(found: Sequence[Row]) -> str:
    lines = ["| What | Got | Aim |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {row.what} | {row.got} | {row.aimed} |" for row in found)])
