"""Each rule of the protocol is needed: without it the exploration finds a counterexample."""

import re
from dataclasses import fields

import pytest

from processors.answers import protocol
from tests.protocol.explorer import explore
from tests.protocol.instances import shapes
from tests.protocol.readers_world import ReaderRules, ReadersWorld
from tests.protocol.setting import Setting
from tests.protocol.taken_out import RULES, Rule
from tests.protocol.workers_world import WorkersWorld

STATES_MAX = 100_000  # a missing rule shows much earlier


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_without_the_rule_a_counterexample_is_found(
    rule: Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = rule.setting
    for name, function in rule.patch.items():
        monkeypatch.setattr(protocol, name, function)
    if rule.fold is not None:
        monkeypatch.setattr(protocol, "fold", rule.fold)
        setting = {**setting, "fold": rule.fold, "prune": False}
    found = explore(WorkersWorld(Setting(**setting)), states_max=STATES_MAX)
    assert found.counterexample is not None, "nobody misses it"
    assert re.search(rule.missed, found.counterexample.problem), str(found.counterexample)


@pytest.mark.parametrize("rule", [field.name for field in fields(ReaderRules)])
def test_without_the_readers_rule_a_counterexample_is_found(rule: str) -> None:
    rules = ReaderRules(**{rule: False})
    found = (explore(ReadersWorld(log, rules)).counterexample for log in shapes(Setting(faults=1)))
    assert any(found), "nobody misses it"
