"""A setting that nothing reads is a promise that nothing keeps."""

import re

from infra.settings import Settings
from tests.house.test_house_rules import ROOT, tracked

DEFINED_IN = {ROOT / "infra" / "settings.py", ROOT / "infra" / "limits.py"}
DERIVED = {  # read through a property that settings.py or limits.py makes of it
    "model_aliases": "models_by_alias",
    "redis_stream_expiry_seconds": "live_expiry_seconds",
    "conversations_database_url": "database_url(",
    "accounts_database_url": "database_url(",
    "projections_database_url": "database_url(",
    "sagas_database_url": "database_url(",
    "tokens_retention_seconds": "tokens_retention",
    "lag_alarm_seconds": "tokens_retention_seconds_min",
}


def test_every_setting_is_read_outside_of_where_it_is_defined() -> None:
    code = "\n".join(
        path.read_text()
        for path in tracked(*(f"{room}/*.py" for room in ("gateway", "infra", "processors")))
        if path not in DEFINED_IN
    )
    unread = [
        name
        for name in Settings.model_fields
        if not re.search(rf"\.{re.escape(DERIVED.get(name, name))}", code)
        and not re.search(rf"\.{name}\b", code)
    ]
    assert unread == []
