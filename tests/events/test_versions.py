"""What was stored once stays readable for ever.

`stored/v1/` holds one row of every event type as this version writes it. The files are never
changed: when the fields of a class change, its VERSION rises, it gets an upcaster, and the next
folder gets its new form.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import orjson
import pytest

from events import catalog
from events.catalog import EVENT_CLASSES
from events.codec import Undecodable, decode_data, decode_stored, encode_stored
from events.envelope import Event, Upcaster
from events.ids import ConversationId

STORED = Path(__file__).parent / "stored"
FILES = sorted(STORED.glob("v*/*.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_every_row_that_was_ever_written_can_be_read(file: Path) -> None:
    row = orjson.loads(file.read_bytes())
    state = orjson.dumps(row["state"])
    recorded = decode_stored(UUID(row["stream"]), row["position"], row["topic"], state)
    assert recorded.event.TYPE == row["topic"] == file.stem
    if row["state"]["version"] == recorded.event.VERSION:
        # Today's form is written as it was: a change without a new version is noticed here.
        assert orjson.loads(encode_stored(recorded)) == row["state"]


@pytest.mark.parametrize("cls", EVENT_CLASSES, ids=lambda cls: cls.TYPE)
def test_every_version_of_every_event_has_its_row_and_its_way_up(cls: type[Event]) -> None:
    for version in range(1, cls.VERSION + 1):
        assert (STORED / f"v{version}" / f"{cls.TYPE}.json").exists()
    assert set(cls.UPCASTERS) == set(range(1, cls.VERSION))


class ConversationNamed(Event):
    """Made up: first it had one name, then several, then a language for each."""

    TYPE: ClassVar[str] = "thalweg.conversations.conversation_named"
    VERSION: ClassVar[int] = 3
    UPCASTERS: ClassVar[Mapping[int, Upcaster]] = {
        1: lambda data: {"conversation": data["conversation"], "names": [data["name"]]},
        2: lambda data: {**data, "names": {"en": data["names"]}},
    }
    conversation: ConversationId
    names: dict[str, list[str]]


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalog.BY_TYPE, ConversationNamed.TYPE, ConversationNamed)


ID = UUID(int=1)
OLD_FORMS: dict[int, dict[str, Any]] = {
    1: {"conversation": str(ID), "name": "Rhine"},
    2: {"conversation": str(ID), "names": ["Rhine"]},
    3: {"conversation": str(ID), "names": {"en": ["Rhine"]}},
}


@pytest.mark.parametrize("version", OLD_FORMS)
@pytest.mark.usefixtures("made_up")
def test_an_old_event_is_brought_up_step_by_step(version: int) -> None:
    event = decode_data(ConversationNamed.TYPE, version, OLD_FORMS[version])
    assert event == ConversationNamed(conversation=ConversationId(ID), names={"en": ["Rhine"]})


@pytest.mark.parametrize("version", [-1, 0, 1, 2])
@pytest.mark.parametrize("data", [{}, [], None, "words", {"names": 7}], ids=repr)
@pytest.mark.usefixtures("made_up")
def test_what_cannot_be_brought_up_is_refused(version: int, data: Any) -> None:
    with pytest.raises(Undecodable, match=f"version {version} has wrong fields"):
        decode_data(ConversationNamed.TYPE, version, data)


@pytest.mark.usefixtures("made_up")
def test_an_event_of_a_newer_program_is_refused() -> None:
    with pytest.raises(Undecodable, match="update it"):
        decode_data(ConversationNamed.TYPE, 4, OLD_FORMS[3])


@pytest.mark.usefixtures("made_up")
def test_an_event_with_fields_of_another_version_is_refused() -> None:
    with pytest.raises(Undecodable, match="wrong fields"):
        decode_data(ConversationNamed.TYPE, 3, OLD_FORMS[1])


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(Undecodable, match="unknown event type"):
        decode_data(ConversationNamed.TYPE, 1, OLD_FORMS[1])
