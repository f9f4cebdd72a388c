"""`thalweg chat` in a conversation in which others speak too."""

from collections.abc import Iterator
from typing import Any

import pytest

from infra.cli.chat import FAILED, chat
from infra.cli.native import Api, Refused
from infra.settings import Settings

END = {"text": "Hi", "kind": "finish", "reason": "stop", "error": None}


class OneConversation(Api):
    """A gateway with one conversation, whose read model lags until somebody waits for it."""

    def __init__(self) -> None:
        self.head = self.shown = "a0"
        self.posted: list[dict[str, Any]] = []

    def __exit__(self, *_: object) -> None:
        """There is no connection."""

    def get(self, path: str, **query: object) -> dict[str, Any]:
        if query.get("after") == f"c:{len(self.posted)}":
            self.shown = self.head
        return {"head": self.shown}

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if body["parent"] != self.head:
            problem = {"code": "stale_head", "seen": body["parent"], "head": self.head}
            raise Refused("stale", problem)
        self.posted.append(body)
        self.head = f"a{len(self.posted)}"
        return {"answer": self.head, "receipt": f"c:{len(self.posted)}"}

    def events(self, path: str, last_id: str | None = None) -> Iterator[tuple[str, str, Any]]:
        yield "0", "end", END


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> OneConversation:
    made = OneConversation()
    monkeypatch.setattr("infra.cli.chat.Api", lambda _: made)
    return made


def test_a_turn_follows_the_one_before_though_reads_lag(gateway: OneConversation) -> None:
    for message in ("one", "two"):
        assert chat(Settings(), message, conversation="c") == 0
    assert [one["parent"] for one in gateway.posted] == ["a0", "a1"]


def test_nothing_is_sent_below_words_that_the_user_has_not_seen(
    gateway: OneConversation, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.head = "of somebody else"
    assert chat(Settings(), "hello", conversation="c") == FAILED
    assert gateway.posted == []
    assert "thalweg conversations show c" in capsys.readouterr().err
