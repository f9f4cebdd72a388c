"""The stages of a held request up to its first token, told as spans of its turn.

It only watches what the state machine is given and what it answers, and changes nothing. A second
worker tells of its own stages under the same turn; `thalweg.said` tells what was there before it.
"""

from collections.abc import Mapping

from events import trace
from events.answers import Chunk, Claim, End
from events.trace import Attribute, Kind
from processors.answers.ports import Request
from processors.answers.protocol_words import (
    EngineFailed,
    EngineFinished,
    Held,
    Input,
    Load,
    Loaded,
    LoadFailed,
    Output,
    Phase,
    Said,
    Send,
    Speak,
)

_CLAIMS_END = (Phase.SPEAKING, Phase.ENDING, Phase.DONE)


class Stages:
    """What one held request is at. Make it only for a trace that is told."""

    def __init__(self, request: Request, turn: str, worker: str) -> None:
        self._turn = turn
        self._attributes: Mapping[str, Attribute] = {
            "thalweg.answer": str(request.answer),
            "thalweg.worker": worker,
        }
        self._model = request.model
        self._began: dict[str, int] = {}
        self._index: int | None = None  # of the first text
        self._spoken = False
        trace.stage(
            "receive request",
            turn,
            request.received_ns or trace.now_ns(),
            kind=Kind.CONSUMER,
            attributes={**self._attributes, "messaging.kafka.offset": request.place.offset},
        )

    def step(self, put: Input | None, state: Held, outputs: tuple[Output, ...]) -> None:
        """The state machine was given `put` and is now in `state`."""
        match put:
            case Loaded() | LoadFailed():
                failed = "unavailable" if isinstance(put, LoadFailed) else ""
                self._end("load transcript", failed=failed)
            case Said() | EngineFinished():
                self._first_token(state)
            case EngineFailed(failure=failure):
                self._first_token(state, failed=failure.value)
        if state.phase in _CLAIMS_END:
            failed = "not counted" if state.fold.claim != state.claim else ""
            self._end("claim answer", failed=failed, said=state.fold.next_index)
        heard = state.fold.end is not None or state.fold.next_index > (self._index or 0)
        if self._index is not None and heard:
            self._index = None
            self._end("first text", kind=Kind.PRODUCER)
        for output in outputs:
            self._begin(output)

    def _begin(self, output: Output) -> None:
        now = trace.now_ns()
        match output:
            case Load():
                self._began["load transcript"] = now
            case Send(Claim()):
                self._began.setdefault("claim answer", now)
            case Speak() if not self._spoken:
                self._began["first token"] = now
            case Send(Chunk(index=index, text=text) | End(index=index, text=text)) if (
                text and not self._spoken
            ):
                self._index, self._spoken = index, True
                self._began["first text"] = now

    def _first_token(self, state: Held, *, failed: str = "") -> None:
        attributes: dict[str, Attribute] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": self._model,
            "thalweg.call": state.call,
        }
        self._end("first token", kind=Kind.CLIENT, failed=failed, more=attributes)

    def _end(
        self,
        name: str,
        *,
        kind: Kind = Kind.INTERNAL,
        failed: str = "",
        said: int | None = None,
        more: Mapping[str, Attribute] | None = None,
    ) -> None:
        began = self._began.pop(name, None)
        if began is None:
            return
        attributes = {**self._attributes, **(more or {})}
        if said is not None:
            attributes["thalweg.said"] = said
        trace.stage(name, self._turn, began, kind=kind, failed=failed, attributes=attributes)
