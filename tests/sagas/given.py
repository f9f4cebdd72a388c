"""Given what an instance has been through, when something comes, then it does this.

given(put, ...).when(put).then(commands=..., timers=...) / .is_over() / .nothing_happens()
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from events.conversations import AnswerEnded, AnswerRequested, Band, EndKind, Sampling, Usage
from events.envelope import Event, Meta, Recorded
from events.ids import AnswerId, ConversationId, derived_id
from sagas.answers import Again, Open, OverdueAnswers, Patience, Put, Reacted
from sagas.saga import Answer, Answered, Reaction, Timer

T = UUID(int=2)
C = ConversationId(UUID(int=1))
A = AnswerId(UUID(int=20))
GRACE, AGAIN, TIMES_MAX, DEADLINE = 30.0, 60.0, 3, 600.0
SAGA = OverdueAnswers(Patience(GRACE, AGAIN, TIMES_MAX))
CORRELATION = UUID(int=4)


def recorded(event: Event, position: int = 3, stream: UUID = C) -> Recorded:
    meta = Meta(T, "key:1", "k", "ada", datetime(2026, 11, 27, tzinfo=UTC), CORRELATION)
    return Recorded(UUID(int=1_000 + position), stream, position, meta, event)


def asked(answer: AnswerId = A, deadline_seconds: float = DEADLINE) -> Recorded:
    return recorded(
        AnswerRequested(
            conversation=C,
            answer=answer,
            parent=UUID(int=10),
            model="model",
            band=Band.DEFAULT,
            deadline_seconds=deadline_seconds,
            sampling=Sampling(max_tokens=16),
        )
    )


def ended(answer: AnswerId = A) -> Recorded:
    return recorded(
        AnswerEnded(
            conversation=C,
            answer=answer,
            kind=EndKind.FINISH,
            reason="stop",
            text="",
            chunk_lengths=(0,),
            usage=Usage(),
        ),
        4,
    )


def again(times: int, answer: AnswerId = A) -> Again:
    return Again(
        id=str(derived_id(T, f"{answer}:{times}", "asked again")),
        tenant=T,
        conversation=C,
        answer=answer,
        times=times,
        correlation=CORRELATION,
        causation=asked().id,
    )


def told(answer: Answer, times: int = 1, seconds: float = 0.0) -> Answered[Again]:
    return Answered(again(times), answer, seconds)


@dataclass(frozen=True)
class Outcome:
    before: Open | None
    reaction: Reacted

    def then(
        self, commands: tuple[Again, ...] = (), timers: tuple[Timer, ...] | None = None
    ) -> None:
        assert self.reaction.state is not None
        assert (self.reaction.commands, self.reaction.timers) == (commands, timers)
        assert not self.reaction.alarm

    def is_over(self) -> None:
        assert self.reaction == Reaction(None)

    def nothing_happens(self) -> None:
        assert self.reaction == Reaction(self.before)

    def calls_a_person(self, words: str) -> None:
        assert words in self.reaction.alarm
        assert (self.reaction.commands, self.reaction.timers) == ((), ())


@dataclass(frozen=True)
class Given:
    state: Open | None

    def when(self, put: Put) -> Outcome:
        return Outcome(self.state, SAGA.react(self.state, put))


def given(*puts: Put) -> Given:
    state: Open | None = None
    for put in puts:
        state = SAGA.react(state, put).state
    return Given(state)
