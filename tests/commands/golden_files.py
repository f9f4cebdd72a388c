"""Golden histories: streams as the event store has them, with the state that they replay to.

    python -m tests.commands.golden_files NAME WHAT IT IS ABOUT < rows.ndjson

makes a new file of rows, each {"position", "topic", "state"} with the state column as text, for
instance from `SELECT originator_version AS position, topic, convert_from(state, 'UTF8') AS state`.
It refuses to touch a file that is there: what these hold was promised to whoever stored it. A file
of sealed rows also holds the key (`"key": {"id", "secret"}`, in hexadecimal; made for this alone),
and the state without it: `"sealed_state"`.
"""

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from commands.accounts import ACCOUNTS, Tenant
from commands.conversations import CONVERSATIONS, Conversation
from events.codec import decode_stored, opened
from events.envelope import Recorded
from events.ids import AnswerId, MessageId
from events.sealing import ContentKey

FOLDER = Path(__file__).parent / "golden"
SUMS = FOLDER / "SHA256SUMS"


@dataclass(frozen=True)
class History:
    name: str
    about: str
    stream: UUID
    rows: list[dict[str, Any]]
    state: dict[str, Any]
    key: ContentKey | None = None
    sealed_state: dict[str, Any] | None = None

    def stored(self) -> list[Recorded]:
        """As they are read without a key."""
        return [
            decode_stored(self.stream, row["position"], row["topic"], row["state"].encode())
            for row in self.rows
        ]

    def recorded(self) -> list[Recorded]:
        """As they are read while their key is there."""
        if self.key is None:
            return self.stored()
        return [opened(one, self.key) if one.sealed else one for one in self.stored()]


def histories() -> list[History]:
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        held = json.loads(path.read_text())
        stream, rows, state = UUID(held["stream"]), held["rows"], held["state"]
        key, sealed = _key(held.get("key")), held.get("sealed_state")
        found.append(History(path.stem, held["about"], stream, rows, state, key, sealed))
    return found


def _key(held: dict[str, str] | None) -> ContentKey | None:
    return None if held is None else ContentKey(UUID(held["id"]), bytes.fromhex(held["secret"]))


def sums() -> dict[str, str]:
    """The digest of each file as it is."""
    paths = sorted(FOLDER.glob("*.json"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def promised_sums() -> dict[str, str]:
    """The digest of each file as it was recorded."""
    lines = SUMS.read_text().splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def replayed(recorded: list[Recorded]) -> dict[str, Any]:
    """The state that a stream replays to, told in plain JSON: what it means, not how it is kept.

    When the classes of the state change, this function follows them, and the files do not.
    """
    if recorded[0].event.context() == "accounts":
        return tenant_told(ACCOUNTS.replay(recorded))
    return conversation_told(CONVERSATIONS.replay(recorded))


def tenant_told(state: Tenant) -> dict[str, Any]:
    keys = [[str(key), in_service] for key, in_service in state.keys.items()]
    return {"id": str(state.id), "keys": keys}


def conversation_told(state: Conversation) -> dict[str, Any]:
    return {
        "id": str(state.id),
        "kind": state.kind.value,
        "stored": state.stored,
        "title": state.title,
        "metadata": [[name, value] for name, value in sorted(state.metadata.items())],
        "archived": state.archived,
        "deleted": state.deleted,
        "position": state.position,
        "read": state.read,
        "head": _text(state.head),
        "open_answers": [str(answer) for answer in state.open_answers],
        "messages": [message_told(state, message) for message in state.messages],
        "answers": [answer_told(state, answer) for answer in state.answers],
    }


def message_told(state: Conversation, message: MessageId) -> dict[str, Any]:
    posted = state.messages[message]
    return {
        "id": str(message),
        "parent": _text(posted.parent),
        "edits": _text(posted.edits),
        "role": posted.role.value,
        "content": posted.content,
        "attachments": [one.model_dump(mode="json") for one in posted.attachments],
    }


def answer_told(state: Conversation, answer: AnswerId) -> dict[str, Any]:
    asked, ended = state.answers[answer], state.ends.get(answer)
    told = {
        "id": str(answer),
        "parent": str(asked.parent),
        "model": asked.model,
        "band": asked.band.value,
        "deadline_seconds": asked.deadline_seconds,
        "sampling": asked.sampling.model_dump(mode="json"),
        "cancel_requested": answer in state.cancels,
        "end": None,
    }
    if ended is not None:
        told["end"] = ended.model_dump(mode="json", exclude={"conversation", "answer"})
    return told


def differences(promised: Any, found: Any, where: str = "state") -> list[str]:
    """Whatever was promised and is otherwise now. What was not known then (a new field of an old
    event, filled in by its upcaster) is no difference."""
    if isinstance(promised, dict) and isinstance(found, dict):
        return [
            one
            for name, value in promised.items()
            for one in differences(value, found.get(name, "missing"), f"{where}.{name}")
        ]
    if isinstance(promised, list) and isinstance(found, list) and len(promised) == len(found):
        return [
            one
            for place, (value, other) in enumerate(zip(promised, found, strict=True))
            for one in differences(value, other, f"{where}[{place}]")
        ]
    return [] if promised == found else [f"{where}: {promised!r} was promised, {found!r} found"]


def _text(node: UUID | None) -> str | None:
    return None if node is None else str(node)


def record(
    name: str,
    about: str,
    stream: UUID,
    rows: list[dict[str, Any]],
    key: ContentKey | None = None,
) -> Path:
    """A new file, and its line among the digests. Raises FileExistsError."""
    path = FOLDER / f"{name}.json"
    history = History(name, about, stream, rows, {}, key)
    state = replayed(history.recorded())
    held: dict[str, Any] = {"about": about, "stream": str(stream), "rows": rows, "state": state}
    if key is not None:
        held["key"] = {"id": str(key.id), "secret": key.secret.hex()}
        held["sealed_state"] = replayed(history.stored())
    with path.open("x") as file:
        file.write(json.dumps(held, indent=1) + "\n")
    known = promised_sums() if SUMS.exists() else {}
    known[path.name] = sums()[path.name]
    SUMS.write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(known.items())))
    return path


def main(name: str, about: str) -> None:
    rows = [json.loads(line) for line in sys.stdin]
    first = json.loads(rows[0]["state"])["data"]
    noun = "tenant" if rows[0]["topic"].startswith("thalweg.accounts.") else "conversation"
    record(name, about, UUID(first[noun]), rows)


if __name__ == "__main__":
    main(sys.argv[1], " ".join(sys.argv[2:]))
