"""The README's tables are true. `python -m tests.house.test_readme` writes them anew."""

from pathlib import Path
from typing import Literal

from infra.settings import table_rows
from tests.house.tables import with_tables

README = Path(__file__).parents[2] / "README.md"
KINDS: tuple[Literal["settings", "limits"], ...] = ("settings", "limits")


def table(kind: Literal["settings", "limits"]) -> str:
    lines = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, default, meaning in table_rows(kind):
        lines.append(f"| `{name}` | {f'`{default}`' if default else ''} | {meaning} |")
    return "\n".join(lines)


def with_its_tables(text: str) -> str:
    return with_tables(text, {kind: table(kind) for kind in KINDS}, "the README")


def test_the_tables_of_the_readme_are_those_of_the_program() -> None:
    text = README.read_text()
    assert with_its_tables(text) == text, "run `python -m tests.house.test_readme`"


if __name__ == "__main__":
    README.write_text(with_its_tables(README.read_text()))
