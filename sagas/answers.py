"""Asks again for answers that are still open after their deadline: none stays open in silence.

A worker acknowledges a request only once the answer has an end, so this is for what should not
happen: a lost work record, an acknowledgement too many, a restored broker. Whoever takes the answer
then finds that its deadline has passed, and ends it without an engine, with what was said so far.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from events.conversations import AnswerEnded, AnswerRequested
from events.envelope import Recorded
from events.ids import AnswerId, ConversationId, TenantId, derived_id, parse_id
from sagas.saga import Answer, Answered, Command, Fired, Kept, Reaction, Timer

OVERDUE = "overdue"
"""The timer: by now the answer should have ended."""
GROWTH = 2.0
"""Each interval is so many times the one before."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an end is waited for. The defaults and their reasons are in the settings."""

    grace_seconds: float
    """After the deadline: an end is on its way through the log, and is recorded."""
    again_seconds: float
    """After the first time; each later interval is GROWTH times the one before."""
    times_max: int
    """Then a person is called."""

    def interval(self, times: int) -> float:
        """Seconds to wait after having asked again for the `times`-th time."""
        return float(self.again_seconds * GROWTH ** (times - 1))


class Open(Kept):
    """An answer whose end was not heard of yet."""

    tenant: TenantId
    conversation: ConversationId
    answer: AnswerId
    times: int = 0
    """How often it was asked for again."""
    correlation: UUID
    causation: UUID
    """The event that asked for it."""
    traceparent: str | None = None


class Again(Command):
    """Ask for an answer once more."""

    tenant: TenantId
    conversation: ConversationId
    answer: AnswerId
    times: int
    correlation: UUID
    causation: UUID
    traceparent: str | None = None


Put = Recorded | Fired | Answered[Again]
Reacted = Reaction[Open, Again]


class OverdueAnswers:
    """One instance an answer. See sagas.saga.Saga."""

    name: str = "answers"
    context: str = AnswerRequested.context()
    opens: str = AnswerRequested.TYPE
    closes: str = AnswerEnded.TYPE
    state: type[Open] = Open
    command: type[Again] = Again

    def __init__(self, patience: Patience) -> None:
        self._patience = patience

    def instance(self, data: Mapping[str, object]) -> UUID:
        return parse_id(str(data["answer"]))

    def react(self, state: Open | None, put: Put) -> Reacted:
        match put:
            case Recorded(event=AnswerRequested() as event) if state is None:
                seconds = event.deadline_seconds + self._patience.grace_seconds
                return Reaction(_opened(put, event), timers=(Timer(OVERDUE, seconds),))
            case Recorded(event=AnswerEnded()):
                return Reaction(None)
            case Fired(timer=timer) if state is not None and timer == OVERDUE:
                return self._overdue(state)
            case Answered() if state is not None:
                return self._answered(state, put)
        return Reaction(state)

    def _overdue(self, state: Open) -> Reacted:
        if state.times >= self._patience.times_max:
            return Reaction(
                state,
                timers=(),
                alarm=f"it has no end, and was asked for again {state.times} times",
            )
        times = state.times + 1
        return Reaction(
            state.model_copy(update={"times": times}),
            commands=(_again(state, times),),
            timers=(Timer(OVERDUE, self._patience.interval(times)),),
        )

    def _answered(self, state: Open, put: Answered[Again]) -> Reacted:
        """An end that is recorded may not have been heard of; or never be, if this was begun by an
        old event that has come once more. The store's own clock knows best what is too early."""
        if put.answer is Answer.POINTLESS:
            return Reaction(None)
        if put.answer is Answer.TOO_EARLY and put.command.times == state.times:
            return Reaction(
                state.model_copy(update={"times": state.times - 1}),
                timers=(Timer(OVERDUE, put.seconds + self._patience.grace_seconds),),
            )
        return Reaction(state)


def _opened(recorded: Recorded, event: AnswerRequested) -> Open:
    meta = recorded.meta
    return Open(
        tenant=TenantId(meta.tenant),
        conversation=event.conversation,
        answer=event.answer,
        correlation=meta.correlation,
        causation=recorded.id,
        traceparent=meta.traceparent,
    )


def _again(state: Open, times: int) -> Again:
    return Again(
        id=str(derived_id(state.tenant, f"{state.answer}:{times}", "asked again")),
        tenant=state.tenant,
        conversation=state.conversation,
        answer=state.answer,
        times=times,
        correlation=state.correlation,
        causation=state.causation,
        traceparent=state.traceparent,
    )
