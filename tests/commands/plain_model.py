"""A conversation told once more, plainly: what its rules say, found by search, without the code.

Nothing is kept but a table of nodes and a few words; whether a branch is being answered, or where
one ends, is looked up by walking the tree. `Verdict` is what should come of a command: the name of
an error, or what happens, in words.
"""

from dataclasses import dataclass, field
from uuid import UUID

Verdict = str | list[tuple[object, ...]]


@dataclass
class Node:
    parent: UUID | None
    said_by: str
    """user, system, assistant; or answer: it was asked for here."""
    open: bool = False
    stopping: bool = False


@dataclass
class Plain:
    started: bool = False
    completion: bool = False
    deleted: bool = False
    archived: bool = False
    title: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    nodes: dict[UUID, Node] = field(default_factory=dict)
    shown: UUID | None = None
    read: int = 0
    log: list[str] = field(default_factory=list)
    """The first word of whatever happened."""

    def path(self, node: UUID | None) -> list[Node]:
        """From a node up to the first message."""
        found = []
        while node is not None:
            found.append(self.nodes[node])
            node = self.nodes[node].parent
        return found

    def below(self, node: UUID | None) -> list[UUID]:
        return [one for one, its in self.nodes.items() if its.parent == node]

    def open_answers(self) -> list[UUID]:
        return [one for one, its in self.nodes.items() if its.open]

    def _missing(self) -> str | None:
        if not self.started:
            return "UnknownConversation"
        return "DeletedConversation" if self.deleted else None

    def _silent(self) -> str | None:
        if self._missing() is None and self.completion:
            return "CompletionClosed"
        if self._missing() is None and self.archived:
            return "ArchivedConversation"
        return self._missing()

    def start(self, title: str | None, metadata: dict[str, str], system: UUID | None) -> Verdict:
        if self.started:
            return "ConversationExists"
        said: Verdict = [("started", "conversation", title, metadata)]
        return said if system is None else [*said, ("posted", system, "system", None, None)]

    def complete(self, messages: list[UUID], answer: UUID) -> Verdict:
        if self.started or not messages:
            return "ConversationExists" if messages else "NothingToAnswer"
        above = [None, *messages]
        said: list[tuple[object, ...]] = [("started", "completion", None, {})]
        said += [
            ("posted", one, "user", parent, None)
            for one, parent in zip(messages, above, strict=False)
        ]
        return [*said, ("asked", answer, messages[-1])]

    def post(self, message: UUID, by: str, parent: UUID | None, answer: UUID | None) -> Verdict:
        if (refused := self._silent()) is not None:
            return refused
        if any(node.open for node in self.path(self.shown)):
            return "AnswerInProgress"
        if parent != self.shown:
            return "StaleHead"
        return self._said(message, by, parent, None, answer)

    def edit(
        self, message: UUID, by: str, parent: UUID | None, edits: UUID, answer: UUID | None
    ) -> Verdict:
        if (refused := self._silent()) is not None:
            return refused
        if edits not in self.nodes or self.nodes[edits].said_by == "answer":
            return "UnknownMessage"
        if self.nodes[edits].parent != parent:
            return "EditElsewhere"
        if self.nodes[edits].said_by != by:
            return "EditOfAnotherRole"
        return self._said(message, by, parent, edits, answer)

    def _said(
        self,
        message: UUID,
        by: str,
        parent: UUID | None,
        edits: UUID | None,
        answer: UUID | None,
    ) -> Verdict:
        said: Verdict = [("posted", message, by, parent, edits)]
        return said if answer is None else [*said, ("asked", answer, message)]

    def answer(self, answer: UUID, parent: UUID) -> Verdict:
        if (refused := self._silent()) is not None:
            return refused
        if parent not in self.nodes:
            return "UnknownNode"
        if self.nodes[parent].said_by == "answer":
            return "NotAnswerable"
        if any(self.nodes[one].open for one in self.below(parent)):
            return "AnswerInProgress"
        return [("asked", answer, parent)]

    def cancel(self, answer: UUID) -> Verdict:
        node = self.nodes.get(answer)
        if node is None or node.said_by != "answer":
            return "UnknownAnswer"
        return [("stop", answer)] if node.open and not node.stopping else []

    def insist(self, answer: UUID, times: int) -> Verdict:
        node = self.nodes.get(answer)
        if node is None or node.said_by != "answer":
            return "UnknownAnswer"
        return [("insisted", answer, times)] if node.open else []

    def record(self, answer: UUID) -> Verdict:
        node = self.nodes.get(answer)
        if node is None or node.said_by != "answer":
            return "UnknownAnswer"
        return [("ended", answer)] if node.open else []

    def choose(self, head: UUID) -> Verdict:
        if (refused := self._missing()) is not None:
            return refused
        if head not in self.nodes:
            return "UnknownNode"
        if self.below(head):
            return "BranchGoesOn"
        return [] if head == self.shown else [("chosen", head)]

    def rename(self, title: str | None) -> Verdict:
        return self._missing() or ([] if title == self.title else [("renamed", title)])

    def describe(self, metadata: dict[str, str]) -> Verdict:
        same = metadata == self.metadata
        return self._missing() or ([] if same else [("described", metadata)])

    def put_away(self, archived: bool) -> Verdict:
        word = "archived" if archived else "unarchived"
        return self._missing() or ([] if archived == self.archived else [(word,)])

    def delete(self) -> Verdict:
        if not self.started:
            return "UnknownConversation"
        if self.deleted:
            return []
        running = [one for one in self.open_answers() if not self.nodes[one].stopping]
        return [("deleted",), *(("stop", one) for one in running)]

    def mark(self, position: int) -> Verdict:
        if (refused := self._missing()) is not None:
            return refused
        if position > len(self.log):
            return "ReadBeyondEnd"
        news = [word for word in self.log[self.read :] if word not in ("read", "insisted")]
        return [("read", position)] if news and position > self.read else []

    def happened(self, word: str, *what: object) -> None:
        """One of the words of a verdict took place."""
        self.log.append(word)
        match word, what:
            case "started", (kind, str() | None as title, dict() as metadata):
                self.started, self.completion = True, kind == "completion"
                self.title, self.metadata = title, metadata
            case "posted", (UUID() as message, str() as by, UUID() | None as parent, _):
                self.nodes[message] = Node(parent, by)
                self.shown = message
            case "asked", (UUID() as answer, UUID() as parent):
                self.nodes[answer] = Node(parent, "answer", open=True)
                self.shown = answer
            case "insisted", (UUID(), int()):
                pass  # it is the same answer
            case "stop", (UUID() as answer,):
                self.nodes[answer].stopping = True
            case "ended", (UUID() as answer,):
                self.nodes[answer].open = False
            case "chosen", (UUID() as head,):
                self.shown = head
            case "renamed", (str() | None as title,):
                self.title = title
            case "described", (dict() as metadata,):
                self.metadata = metadata
            case "archived" | "unarchived", ():
                self.archived = word == "archived"
            case "deleted", ():
                self.deleted = True
            case "read", (int() as position,):
                self.read = position
            case _:
                raise AssertionError(f"no such word: {word} {what}")
