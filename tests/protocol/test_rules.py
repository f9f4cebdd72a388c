"""Each rule of the protocol is needed: without it the exploration finds a counterexample."""

import re

import pytest

from processors.answers import protocol
from tests.protocol.explorer import explore
from tests.protocol.taken_out import RULES, Rule
from tests.protocol.workers_world import Setting, WorkersWorld

STATES_MAX = 100_000  # a missing rule shows much earlier


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_rule_is_needed(rule: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = explore(WorkersWorld(Setting(**rule.setting)), states_max=STATES_MAX)
    assert whole.counterexample is None, str(whole.counterexample)

    setting = rule.setting
    for name, function in rule.patch.items():
        monkeypatch.setattr(protocol, name, function)
    if rule.fold is not None:
        monkeypatch.setattr(protocol, "fold", rule.fold)
        setting = {**setting, "fold": rule.fold, "prune": False}
    found = explore(WorkersWorld(Setting(**setting)), states_max=STATES_MAX)
    assert found.counterexample is not None, "nobody misses it"
    assert re.search(rule.missed, found.counterexample.problem), str(found.counterexample)
