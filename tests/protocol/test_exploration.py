"""Everything that can happen in small worlds, with the real fold and the real state machine."""

import pytest

from tests.protocol.explorer import explore
from tests.protocol.instances import LARGE, SMALL, shapes
from tests.protocol.readers_world import ReadersWorld
from tests.protocol.setting import Setting
from tests.protocol.workers_world import WorkersWorld


def _hold(setting: Setting) -> None:
    explored = explore(WorkersWorld(setting))
    print(f"{explored.states} states, {explored.ends} ends")  # noqa: T201  (for README.md)
    assert explored.counterexample is None, str(explored.counterexample)


def _readers_hold(setting: Setting, faults: int) -> None:
    states = 0
    for log in shapes(setting):
        explored = explore(ReadersWorld(log, faults=faults))
        states += explored.states
        assert explored.counterexample is None, str(explored.counterexample)
    print(f"{states} states, {len(shapes(setting))} logs")  # noqa: T201


@pytest.mark.parametrize("setting", SMALL.values(), ids=SMALL)
def test_workers_agree_and_end(setting: Setting) -> None:
    _hold(setting)


def test_readers_see_one_text_whatever_one_fault_does() -> None:
    _readers_hold(Setting(chunks=1, faults=1), faults=1)


@pytest.mark.slow
@pytest.mark.parametrize("setting", LARGE.values(), ids=LARGE)
def test_workers_agree_and_end_in_larger_worlds(setting: Setting) -> None:
    _hold(setting)


@pytest.mark.slow
def test_readers_see_one_text_whatever_two_faults_do() -> None:
    _readers_hold(Setting(chunks=1, faults=1), faults=2)
    _readers_hold(Setting(chunks=2, faults=1), faults=1)
