"""Made-up pasts of conversations, in which everything happens that can, and some that cannot."""

import random
from collections.abc import Callable
from uuid import UUID

from events import conversations as said
from events.conversations import EndKind, Kind, Role
from events.ids import AnswerId, fresh_id
from tests.projections.histories_events import OTHER_TENANT, TENANT, Told

TEXTS = ("What is a thalweg?", "a\0b", "", " \n ", "\x1a0", "\U0001f600" * 90, "x" * 3_000)


class Past:
    """Tells a conversation by chance."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.told = Told(
            tenant=chance.choice([TENANT, TENANT, OTHER_TENANT]),
            subject=chance.choice(["ann", "bob", "b\0b"]),
            stored=chance.random() < 0.85,
            kind=chance.choice([Kind.CONVERSATION, Kind.CONVERSATION, Kind.COMPLETION]),
            title=chance.choice([None, *TEXTS]),
            metadata=self.metadata(),
        )
        self.asked: list[AnswerId] = []
        self.nodes: list[UUID] = []

    def metadata(self) -> dict[str, str]:
        return {self.text(): self.text() for _ in range(self.chance.randint(0, 2))}

    def text(self) -> str:
        return self.chance.choice(TEXTS)

    def live(self, events: int) -> Told:
        for _ in range(events):
            self.chance.choices(DOINGS, weights=WEIGHTS)[0](self)
        return self.told

    def posts(self) -> None:
        parent = self.chance.choice([None, "head", *self.nodes[-3:]])
        role = self.chance.choice([Role.USER, Role.USER, Role.SYSTEM, Role.ASSISTANT])
        self.nodes.append(self.told.post(self.text(), parent=parent, role=role))

    def asks(self) -> None:
        if self.nodes:
            answer = self.told.ask(self.chance.choice(self.nodes), model=self.chance.choice("mno"))
            self.asked.append(answer)
            self.nodes.append(answer)

    def ends(self) -> None:
        """One that is open, one that has ended already, or one that nobody asked for."""
        answer = self.chance.choice([*self.asked, AnswerId(fresh_id())])
        kind = self.chance.choice(list(EndKind))
        tokens = self.chance.randint(0, 9), self.chance.randint(0, 9)
        self.told.end(answer, self.text(), kind, tokens=tokens)

    def cancels(self) -> None:
        answer = self.chance.choice([*self.asked, AnswerId(fresh_id())])
        self.told.about(said.AnswerCancelRequested, answer=answer)

    def renames(self) -> None:
        self.told.about(said.ConversationRenamed, title=self.chance.choice([None, *TEXTS]))

    def describes(self) -> None:
        self.told.about(said.MetadataReplaced, metadata=self.metadata())

    def archives(self) -> None:
        kind = self.chance.choice([said.ConversationArchived, said.ConversationUnarchived])
        self.told.about(kind)

    def reads(self) -> None:
        position = self.chance.randint(0, len(self.told.recorded) + 2)
        self.told.about(said.ConversationRead, position=position)

    def chooses(self) -> None:
        if self.nodes:
            self.told.about(said.BranchChosen, head=self.chance.choice(self.nodes))

    def deletes(self) -> None:
        self.told.about(said.ConversationDeleted)


DOINGS: tuple[Callable[[Past], None], ...] = (
    Past.posts,
    Past.asks,
    Past.ends,
    Past.cancels,
    Past.renames,
    Past.describes,
    Past.archives,
    Past.reads,
    Past.chooses,
    Past.deletes,
)
WEIGHTS = (6, 5, 5, 1, 1, 1, 1, 1, 1, 0.3)


def pasts(seed: int, conversations: int, *, events: int = 12) -> list[Told]:
    chance = random.Random(seed)
    return [Past(chance).live(chance.randint(0, events)) for _ in range(conversations)]
