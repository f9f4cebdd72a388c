"""A copy of the working tree in which mutants are tried, one after the other."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tests.mutants.mutant import Mutant

ROOT = Path(__file__).parents[2]
HANGS_SECONDS = 100
"""A test that takes longer hangs: it fails."""
SECONDS_MAX = 600
"""Of one run of pytest."""
WIDER = ("-m", "not slow", "--ignore", "tests/house/test_mutants.py")
"""What is run if none of the named tests catches a mutant. That the patch of one that is planted
does not apply again is no catch."""
FAILED = re.compile(r"^(?:FAILED|ERROR) ([^\s\[]+)", re.MULTILINE)
"""The test, whatever its parameters: what they are called may have spaces."""


@dataclass(frozen=True, slots=True)
class Ran:
    status: int
    """pytest's: 0 passed, 1 failed; anything else says nothing about the program."""
    failed: str | None
    output: str


@dataclass(frozen=True, slots=True)
class Verdict:
    mutant: Mutant
    caught_by: str | None
    expected: bool
    """It was one of the tests that are named for it."""
    seconds: float
    """Until it was caught."""
    why_not: str = ""
    rests_on: str = ""
    """If it was caught: the digest of what was read for that."""


class Bench:
    """`try_out` mutants. Not for two threads at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in _tracked():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
        # The tests of the house ask git which files are ours.
        for arguments in (("init", "--quiet"), ("add", "--all")):
            subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)

    def try_out(self, mutant: Mutant) -> Verdict:
        began = time.monotonic()
        runs = [(one,) for one in mutant.tests]
        for selected in (*runs, WIDER):
            with _planted(mutant, self._folder):
                ran = self._run(*selected)
            seconds = time.monotonic() - began
            if ran.status == 0:
                continue
            if ran.status != 1 or ran.failed is None:
                return Verdict(mutant, None, False, seconds, f"pytest did not run:\n{ran.output}")
            clean = self._run(ran.failed)
            if clean.status != 0:
                why = f"{ran.failed} fails without it too:\n{clean.output}"
                return Verdict(mutant, None, False, seconds, why)
            found = digest(self._folder, mutant, ran.failed)
            return Verdict(mutant, ran.failed, selected is not WIDER, seconds, rests_on=found)
        return Verdict(mutant, None, False, time.monotonic() - began, "every test passes with it")

    def _run(self, *selected: str) -> Ran:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "--no-header",
            "--timeout",
            str(HANGS_SECONDS),
        ]
        try:
            done = subprocess.run(
                [*command, "-o", "addopts=--strict-markers -p no:cacheprovider", *selected],
                cwd=self._folder,
                env=os.environ | {"PYTHONPATH": str(self._folder)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=SECONDS_MAX,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Ran(2, None, f"no end within {SECONDS_MAX} s")
        found = FAILED.search(done.stdout)
        return Ran(done.returncode, found and found[1], done.stdout[-4_000:])


@contextmanager
def _planted(mutant: Mutant, folder: Path) -> Iterator[None]:
    """The mutant is in the folder's files meanwhile; they are the folder's own in the end."""
    kept = {name: (folder / name).with_suffix(".kept") for name in mutant.files}
    for name, copy in kept.items():
        shutil.copy2(folder / name, copy)
    try:
        git_apply(folder / mutant.path.relative_to(ROOT), folder)
        yield
    finally:
        for name, copy in kept.items():
            copy.replace(folder / name)


def digest(folder: Path, mutant: Mutant, caught_by: str) -> str:
    """Of the patch, the files that it changes and the file of the test that caught it."""
    files = [str(mutant.path.relative_to(ROOT)), *mutant.files, caught_by.partition("::")[0]]
    content = [(folder / name).read_bytes() for name in files if (folder / name).exists()]
    return sha256(b"\0".join(content)).hexdigest()


def git_apply(patch: Path, folder: Path, *options: str) -> None:
    """Raises CalledProcessError. The folder need not be a repository, whatever lies above it."""
    subprocess.run(
        ["git", "apply", *options, str(patch)],
        cwd=folder,
        env=os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)},
        check=True,
        capture_output=True,
        text=True,
    )


def _tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
