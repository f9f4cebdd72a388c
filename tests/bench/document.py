"""Writes what a run has found into docs/benchmarks.md, between its markers."""

import re
from collections.abc import Mapping
from pathlib import Path

from tests.fixtures.processes import ROOT

DOCS = ROOT / "docs"
PAGE = DOCS / "benchmarks.md"


def filled(page: str, sections: Mapping[str, str]) -> str:
    """The page with each section's text between `<!-- NAME -->` and `<!-- end of NAME -->`.

    Raises KeyError for a section that has no markers.
    """
    for name, text in sections.items():
        marked = rf"(<!-- {name} -->\n)(.*?)(<!-- end of {name} -->)"
        found = re.search(marked, page, re.DOTALL)
        if found is None:
            raise KeyError(name)
        before, after = page[: found.start(2)], page[found.end(2) :]
        page = f"{before}{text}\n{after}"
    return page


def write(sections: Mapping[str, str], pictures: Mapping[str, str], docs: Path = DOCS) -> None:
    page = docs / PAGE.name
    page.write_text(filled(page.read_text(), sections))
    for name, svg in pictures.items():
        (docs / name).write_text(svg)
