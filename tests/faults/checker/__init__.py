"""The checker: a history and what was stored in, anomalies out. Pure; every case has this one."""

from collections.abc import Sequence

from tests.faults.checker.answers import check_answers
from tests.faults.checker.commands import check_commands
from tests.faults.checker.log import check_log
from tests.faults.checker.reads import check_reads
from tests.faults.checker.view import view
from tests.faults.checker.words import ANOMALIES, Anomaly, Rules
from tests.faults.history import Happening
from tests.faults.stored import Stored

__all__ = ["ANOMALIES", "Anomaly", "Rules", "check"]


def check(history: Sequence[Happening], stored: Stored, rules: Rules) -> list[Anomaly]:
    seen = view(history, stored, rules.own_key)
    return [
        *check_commands(seen, rules),
        *check_log(seen, rules),
        *check_answers(seen, rules),
        *check_reads(seen),
    ]
