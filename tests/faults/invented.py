"""Histories that are invented, with what a faultless installation would have stored: commands that
are repeated, lost sight of and refused, answers with seams that are read over several connections,
a relay that repeats itself. For the tests of the checker."""

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

from tests.faults.history import Happening, Kind
from tests.faults.stored import Kept, Logged, Stored

PARTITIONS = 4


@dataclass
class Invented:
    """Open to be spoilt by a test: everything is a plain list."""

    random: Random
    history: list[Happening] = field(default_factory=list)
    events: list[Kept] = field(default_factory=list)
    log: list[Logged] = field(default_factory=list)
    commands: dict[str, tuple[str, int]] = field(default_factory=dict)
    unheard_of: set[str] = field(default_factory=set)
    garbage: int = 0
    ops: int = 0
    calls: int = 0

    @property
    def stored(self) -> Stored:
        unheard_of = frozenset(self.unheard_of)
        return Stored(self.events, self.log, self.commands, unheard_of, self.garbage)

    # what there is to begin with -------------------------------------------------------------

    def new_id(self) -> str:
        return str(UUID(int=self.random.getrandbits(128), version=4))

    def happen(self, client: int, op: int, kind: Kind, what: str, **facts: Any) -> None:
        self.history.append(Happening(float(len(self.history)), client, op, kind, what, facts))

    def operation(self, client: int, what: str, **facts: Any) -> int:
        self.ops += 1
        self.happen(client, self.ops, Kind.INVOKE, what, **facts)
        return self.ops

    def append(self, stream: str, command: str, what: str, **facts: Any) -> Kept:
        position = 1 + sum(event.stream == stream for event in self.events)
        event = Kept(self.new_id(), stream, position, command, what, facts)
        self.events.append(event)
        if command.startswith("key:"):
            self.commands[command] = (stream, position)
        return event

    # what a client does ----------------------------------------------------------------------

    def command(self, client: int, what: str, key: str, reply: dict[str, Any], **sent: Any) -> None:
        """Accepted, after attempts of which nobody knows; and perhaps once more."""
        for _ in range(self.random.randrange(3)):
            op = self.operation(client, what, key=key, **sent)
            self.happen(client, op, Kind.UNKNOWN, what, code="connection")
        for _ in range(1 + self.random.randrange(2)):
            op = self.operation(client, what, key=key, **sent)
            self.happen(client, op, Kind.OK, what, body=json.dumps(reply))

    def converse(self, client: int) -> None:
        stream = self.new_id()
        began = self.append(stream, f"key:start-{stream}", "started", title=None)
        reply = {"conversation": stream, "receipt": f"{stream}:{began.position}"}
        self.command(client, "start", f"start-{stream}", reply)
        for _ in range(1 + self.random.randrange(3)):
            self.turn(client, stream)
            for change in (self.rename, self.rename_in_vain, self.lose_sight, self.ask_nonsense):
                if self.random.random() < 0.7:
                    change(client, stream)

    def rename(self, client: int, stream: str) -> None:
        title = self.new_id()
        event = self.append(stream, f"key:{title}", "renamed", title=title)
        receipt = f"{stream}:{event.position}"
        self.command(
            client, "rename", title, {"receipt": receipt}, conversation=stream, title=title
        )
        op = self.operation(client, "read", conversation=stream, after=receipt)
        seen = {"title": title, "position": event.position, "parked": False}
        self.happen(client, op, Kind.OK, "read", **seen)

    def rename_in_vain(self, client: int, stream: str) -> None:
        title = self.new_id()
        op = self.operation(client, "rename", key=title, conversation=stream, title=title)
        self.happen(client, op, Kind.FAIL, "rename", code="answer_in_progress")

    def lose_sight(self, client: int, stream: str) -> None:
        title = self.new_id()
        op = self.operation(client, "rename", key=title, conversation=stream, title=title)
        self.happen(client, op, Kind.UNKNOWN, "rename", code="connection")
        if self.random.random() < 0.5:
            self.append(stream, f"key:{title}", "renamed", title=title)

    def ask_nonsense(self, client: int, stream: str) -> None:
        sent = {"key": self.new_id(), "conversation": stream, "content": "x", "tokens": 1}
        op = self.operation(client, "stale", **sent)
        self.happen(client, op, Kind.FAIL, "stale", code="stale_head")

    def turn(self, client: int, stream: str) -> None:
        key, answer, tokens = self.new_id(), self.new_id(), 4 + self.random.randrange(12)
        self.append(stream, f"key:{key}", "posted", content=f"tokens={tokens}")
        asked = self.append(stream, f"key:{key}", "asked", answer=answer)
        reply = {"answer": answer, "receipt": f"{stream}:{asked.position}"}
        sent = {"conversation": stream, "content": f"tokens={tokens}", "tokens": tokens}
        self.command(client, "post", key, reply, **sent)
        chunks, seams = self.speak(tokens)
        how = {"kind": "finish", "reason": "stop", "chunks": chunks, "seams": seams}
        self.append(stream, f"answer-end:{answer}", "ended", answer=answer, **how)
        for again in (False, True):
            self.read(client, answer, chunks, again=again)

    def speak(self, tokens: int) -> tuple[list[str], list[int]]:
        chunks: list[str] = []
        seams: list[int] = []
        self.calls += 1
        number = 0
        while number < tokens:
            if chunks and self.random.random() < 0.2:
                self.calls += 1
                seams.append(len(chunks))
            size = min(1 + self.random.randrange(3), tokens - number)
            chunks.append("".join(f" {n}@c{self.calls}" for n in range(number, number + size)))
            number += size
        if self.random.random() < 0.5:
            chunks.append("")
        return chunks, seams

    def read(self, client: int, answer: str, chunks: list[str], *, again: bool) -> None:
        op = self.operation(client, "stream", answer=answer, after=-1, again=again)
        for index, text in enumerate(chunks):
            end = {"end": "finish"} if index + 1 == len(chunks) else {}
            seen = {"answer": answer, "index": index, "text": text, "again": again, **end}
            self.happen(client, op, Kind.SAW, "stream", **seen)
            if end:
                self.happen(client, op, Kind.OK, "stream")
            elif self.random.random() < 0.2:
                self.happen(client, op, Kind.UNKNOWN, "stream", code="connection")
                op = self.operation(client, "stream", answer=answer, after=index, again=again)

    def relay(self) -> None:
        """All of it, and some of it again."""
        partitions: dict[str, int] = {}
        records = []
        for event in self.events:
            partition = partitions.setdefault(event.stream, self.random.randrange(PARTITIONS))
            records.append(Logged(event.id, event.stream, event.position, partition))
        self.log = list(records)
        for _ in range(3):
            at = self.random.randrange(len(self.log))
            self.log[at:at] = self.log[max(0, at - 5) : at]


def invent(seed: int, clients: int = 3) -> Invented:
    """Each client's happenings come one after the other; what they mean does not hang on that."""
    invented = Invented(Random(seed))
    for client in range(1, clients + 1):
        invented.converse(client)
    invented.relay()
    return invented
