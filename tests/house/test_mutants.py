"""A planted bug that does not apply any more plants nothing, and an old verdict says nothing."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.house.test_house_rules import ROOT
from tests.mutants.bench import FAILED, Verdict, digest, git_apply
from tests.mutants.kept import Kept
from tests.mutants.mutant import Mutant, all_mutants

MUTANTS_MIN = 25
"""Fewer say little about the tests."""
MUTANTS = all_mutants()


def test_there_are_enough_planted_bugs() -> None:
    assert len(MUTANTS) >= MUTANTS_MIN


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_planted_bug_applies_to_the_tree_as_it_is(mutant: Mutant) -> None:
    """Whoever changes the lines around one makes it again: the bug, not the patch, is meant."""
    try:
        git_apply(mutant.path, ROOT, "--check")
    except subprocess.CalledProcessError as error:
        pytest.fail(f"{mutant.what} {error.stderr}")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_planted_bug_changes_the_program_and_names_tests_that_are_there(
    mutant: Mutant,
) -> None:
    assert mutant.what.endswith(".")
    assert mutant.files
    assert not [name for name in mutant.files if name.startswith("tests/")]
    assert mutant.tests
    assert [one for one in mutant.tests if not (ROOT / one.partition("::")[0]).exists()] == []


@pytest.mark.parametrize(
    ("line", "test"),
    [
        ("FAILED tests/a.py::test_b - assert 1 == 2", "tests/a.py::test_b"),
        ("FAILED tests/a.py::TestA::test_b[SELECT 1 - 2] - x", "tests/a.py::TestA::test_b"),
        ("ERROR tests/a.py::test_b[é] - OSError", "tests/a.py::test_b"),
        ("FAILED tests/a.py::test_b", "tests/a.py::test_b"),
    ],
)
def test_who_caught_it_is_read_from_what_pytest_says(line: str, test: str) -> None:
    found = FAILED.search(f"...F\n{line}\n1 failed in 2 s")
    assert found is not None
    assert found[1] == test


def test_a_verdict_is_kept_until_something_that_it_rests_on_changes(tmp_path: Path) -> None:
    mutant = MUTANTS[0]
    caught_by = f"{mutant.tests[0].partition('::')[0]}::test_something"
    rests_on = digest(ROOT, mutant, caught_by)
    kept = tmp_path / "kept" / "mutants.jsonl"
    verdict = Verdict(mutant, caught_by, expected=True, seconds=1.5, rests_on=rests_on)
    Kept(kept).keep(verdict)
    assert Kept(kept).of(mutant) == verdict
    Kept(kept).keep(replace(verdict, caught_by=None))
    assert Kept(kept).of(mutant) == verdict
    Kept(kept).keep(replace(verdict, rests_on="something else"))
    assert Kept(kept).of(mutant) is None


def test_a_verdict_rests_on_the_patch_the_program_and_the_test(tmp_path: Path) -> None:
    mutant = MUTANTS[0]
    caught_by = f"{mutant.tests[0].partition('::')[0]}::test_something"
    files = [mutant.path.relative_to(ROOT), *mutant.files, caught_by.partition("::")[0]]
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    seen = [digest(tmp_path, mutant, caught_by)]
    for name in files:
        with (tmp_path / name).open("a") as file:
            file.write("#\n")
        seen.append(digest(tmp_path, mutant, caught_by))
    assert len(set(seen)) == 1 + len(files)
