"""The README's tables are true. `python -m tests.house.test_readme` writes them anew."""

import re
from pathlib import Path
from typing import Literal

from infra.settings import table_rows

README = Path(__file__).parents[2] / "README.md"
KINDS: tuple[Literal["settings", "limits"], ...] = ("settings", "limits")


def table(kind: Literal["settings", "limits"]) -> str:
    lines = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, default, meaning in table_rows(kind):
        lines.append(f"| `{name}` | {f'`{default}`' if default else ''} | {meaning} |")
    return "\n".join(lines)


def with_tables(text: str) -> str:
    for kind in KINDS:
        pattern = rf"(<!-- {kind}: begin[^\n]*-->\n).*?(<!-- {kind}: end -->)"
        text, found = re.subn(
            pattern, lambda m, kind=kind: f"{m[1]}{table(kind)}\n{m[2]}", text, flags=re.DOTALL
        )
        assert found == 1, f"the README has no place for the table of {kind}"
    return text


def test_the_tables_of_the_readme_are_those_of_the_program() -> None:
    text = README.read_text()
    assert with_tables(text) == text, "run `python -m tests.house.test_readme`"


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text()))
