"""Rules of the house that a program can check. Each says why it is there."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINES_MAX = 400


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file()]


def test_no_python_file_is_longer_than_a_reader_can_hold() -> None:
    """A file that outgrows this has become two things."""
    long = [f for f in tracked("*.py") if len(f.read_text().splitlines()) > LINES_MAX]
    assert long == []


def test_no_path_of_a_machine_is_written_down() -> None:
    """The project runs wherever it is cloned; a path of one machine is a hidden dependency."""
    absolute = re.compile(r"""["'\s=(](/home|/root|/work|/Users)/""")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()[:80]}"
        for path in tracked("*.py", "*.md", "*.toml", "Makefile", ".ci/run")
        for line in path.read_text().splitlines()
        if absolute.search(line)
    ]
    assert found == []


def test_lock_files_carry_hashes_and_no_addresses() -> None:
    """An index's address is the installer's choice, not the project's."""
    for lock in tracked("requirements/*.txt"):
        text = lock.read_text()
        assert "--hash=sha256:" in text
        assert not re.search(r"^--(extra-)?index-url|^--find-links|https?://", text, re.MULTILINE)


def test_every_direct_dependency_says_why_it_is_there() -> None:
    lines = (ROOT / "requirements" / "run.in").read_text().splitlines()
    unexplained = [x for x in lines if x and not x.startswith("#") and not re.search(r"  # \w", x)]
    assert unexplained == []


def test_topics_are_named_in_one_place() -> None:
    """Who writes a topic's name by hand forgets the prefix that keeps tests apart."""
    literal = re.compile(r"""["']thalweg\.(tokens|answers|conversations|accounts)(\.\w+)?["']""")
    rooms = ("commands", "processors", "projections", "sagas", "gateway", "infra")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in tracked(*(f"{room}/*.py" for room in rooms))
        for line in path.read_text().splitlines()
        if literal.search(line) and "getLogger" not in line
    ]
    assert found == []
