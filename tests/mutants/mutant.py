"""A planted bug: a patch with a sentence above it and the tests that should catch it.

The first line of the file says what is wrong with the program then, the second one which tests are
run for it, the quickest first: `Caught by: tests/events/test_fold.py ...`.
"""

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
CAUGHT_BY = "Caught by: "


@dataclass(frozen=True, slots=True)
class Mutant:
    path: Path
    what: str
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def files(self) -> list[str]:
        """What it changes."""
        lines = self.path.read_text().splitlines()
        return [line.removeprefix("+++ b/") for line in lines if line.startswith("+++ b/")]


def read(path: Path) -> Mutant:
    what, tests, *_ = path.read_text().splitlines()
    if not tests.startswith(CAUGHT_BY):
        raise ValueError(f"{path.name}: its second line should begin with {CAUGHT_BY!r}")
    return Mutant(path, what, tuple(tests.removeprefix(CAUGHT_BY).split()))


def all_mutants() -> list[Mutant]:
    return [read(path) for path in sorted(FOLDER.glob("*.patch"))]
