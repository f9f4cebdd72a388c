"""A planted bug that does not apply any more plants nothing."""

import subprocess

import pytest

from tests.house.test_house_rules import ROOT
from tests.mutants.bench import git_apply
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
