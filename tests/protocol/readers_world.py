"""The model of everything that follows the log: recorders, the live stream, the store, a gateway.

The log is given, as two workers may have written it (workers_world), and grows as time goes on.
Recorders fold it from the committed offset; each adds to the live stream by the design's script,
records the end in the event store (the first one stands), and commits past the answer after that.
The gateway's reader passes on what is next, from the pushes, the live stream, the log's fold or the
recorded end, in any order and at any time. Faults: a recorder starts again; another one takes over
while the first sleeps and goes on later; the live stream is flushed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from events.answers import EMPTY, Fold, TokenRecord, entries
from events.answers import fold as real_fold
from tests.protocol.explorer import Violated

RECORDERS = 2


class Item(NamedTuple):
    """An entry of an answer's stream."""

    place: int
    text: str
    end: bool


class Recorder(NamedTuple):
    begin: int
    place: int


class Readers(NamedTuple):
    visible: int
    """Length of the log by now."""
    committed: int
    recorders: tuple[Recorder | None, ...]
    stream: tuple[Item, ...]
    pushed: int
    """Entries up to here (exclusive) were pushed; a push may come late, again, or not at all."""
    recorded: tuple[Item, ...]
    shown: tuple[Item, ...]
    faults: int


@dataclass(frozen=True)
class ReaderRules:
    """Each can be taken out, to see what goes wrong without it."""

    commits_after_recording: bool = True
    appends_conditionally: bool = True
    adds_again_what_is_missing: bool = True
    passes_on_the_next_only: bool = True
    starts_at_the_committed_offset: bool = True
    prefers_the_recorded_end: bool = True
    forgets_what_has_ended: bool = True


@dataclass
class ReadersWorld:
    log: tuple[TokenRecord, ...]
    rules: ReaderRules = field(default_factory=ReaderRules)
    faults: int = 2
    fold: Callable[[Fold, TokenRecord], Fold] = real_fold

    def __post_init__(self) -> None:
        self._folds: dict[tuple[int, int], tuple[tuple[Item, ...], bool, bool]] = {}

    def start(self) -> Readers:
        nobody: tuple[Recorder | None, ...] = (None,) * (RECORDERS - 1)
        first = Recorder(0, 0)
        return Readers(0, 0, (first, *nobody), (), 0, (), (), self.faults)

    def folded(self, begin: int, place: int) -> tuple[tuple[Item, ...], bool, bool]:
        """Of the fold of that part of the log: entries, has it ended, is it open?"""
        known = self._folds.get((begin, place))
        if known is None:
            state = EMPTY
            for record in self.log[begin:place]:
                state = self.fold(state, record)
            items = tuple(Item(e.index, e.text, e.end is not None) for e in entries(state))
            looks_open = state.claim is not None and state.end is None
            known = self._folds[begin, place] = (items, state.end is not None, looks_open)
        return known

    def unfinished(self, state: Readers) -> str | None:
        truth, ended, _ = self.folded(0, len(self.log))
        if ended and state.recorded != truth:
            return "the end is not recorded"
        if ended and state.shown != truth:
            return "the reader has not seen all"
        if ended and state.committed < len(self.log):
            return "the recorder never commits past the answer"
        return None

    # Moves ---------------------------------------------------------------------------------------

    def moves(self, state: Readers) -> Iterator[tuple[str, bool, Readers]]:
        self._check(state)
        for name, free, after in self._all_moves(state):
            if after != state:
                yield name, free, after

    def _all_moves(self, state: Readers) -> Iterator[tuple[str, bool, Readers]]:
        if state.visible < len(self.log):
            yield "the log grows", True, state._replace(visible=state.visible + 1)
        for number, recorder in enumerate(state.recorders):
            if recorder is not None:
                yield from self._recorder_moves(state, number, recorder)
        yield from self._gateway_moves(state)
        if state.faults > 0:
            yield from self._fault_moves(state._replace(faults=state.faults - 1))

    def _recorder_moves(
        self, state: Readers, number: int, recorder: Recorder
    ) -> Iterator[tuple[str, bool, Readers]]:
        name = f"recorder {number}"
        items, ended, looks_open = self.folded(*recorder)
        if recorder.place < state.visible:
            moved = Recorder(recorder.begin, recorder.place + 1)
            news = self.folded(*moved)[0]
            after = state._replace(recorders=_put(state.recorders, number, moved))
            if len(news) > len(items):
                after = self._append(after, news)
            yield f"{name} reads {recorder.place}", True, after
        if ended and not state.recorded:
            yield f"{name} records the end", True, state._replace(recorded=items)
        known = bool(state.recorded)
        settled = (known and ended) or (known and self.rules.forgets_what_has_ended)
        nothing_open = not items and not looks_open and known
        early = not self.rules.commits_after_recording
        if settled or nothing_open or early:
            committed = max(state.committed, recorder.place)
            yield f"{name} commits", True, state._replace(committed=committed)

    def _append(self, state: Readers, items: tuple[Item, ...]) -> Readers:
        """The script, with what the recorder does by its answer. Entries come one at a time."""
        last = state.stream[-1].place if state.stream else -1
        new = items[-1]
        added: tuple[Item, ...]
        if not self.rules.appends_conditionally:
            added = (new,)
        elif last >= new.place:
            added = ()
        elif last == new.place - 1 or self.rules.adds_again_what_is_missing:
            added = items[last + 1 :]
        else:
            added = ()
        stream = (*state.stream, *added)
        if not stream or stream[-1].place < new.place:
            raise Violated("a live stream that was flushed is of no use any more")
        return state._replace(stream=stream, pushed=max(state.pushed, new.place + 1))

    def _gateway_moves(self, state: Readers) -> Iterator[tuple[str, bool, Readers]]:
        shown = state.shown
        if shown and shown[-1].end:
            return
        later = [item for item in state.stream if item.place >= len(shown)]
        pushed = self.folded(0, state.visible)[0][len(shown) : state.pushed]
        for item in {*later[:1], *pushed}:
            if item.place == len(shown) or (
                not self.rules.passes_on_the_next_only and item.place > len(shown)
            ):
                name = f"the gateway passes on entry {item.place}"
                yield name, True, state._replace(shown=(*shown, item))
        if state.recorded and self.rules.prefers_the_recorded_end:
            rest = state.recorded[len(shown) :]
            yield "the gateway reads the recorded end", True, state._replace(shown=shown + rest)
        else:
            at = state.committed if self.rules.starts_at_the_committed_offset else state.visible
            rest = self.folded(at, state.visible)[0][len(shown) :]
            yield "the gateway folds the log", True, state._replace(shown=shown + rest)

    def _fault_moves(self, state: Readers) -> Iterator[tuple[str, bool, Readers]]:
        again = Recorder(state.committed, state.committed)
        yield "FAULT the live stream is flushed", False, state._replace(stream=())
        for number in range(RECORDERS):
            recorders = _put(state.recorders, number, again)
            name = "starts again" if state.recorders[number] is not None else "takes over"
            yield f"FAULT recorder {number} {name}", False, state._replace(recorders=recorders)

    # Checks --------------------------------------------------------------------------------------

    def _check(self, state: Readers) -> None:
        truth = self.folded(0, state.visible)[0]
        if state.shown != truth[: len(state.shown)]:
            raise Violated("the reader's text is not a beginning of the answer")
        if state.stream != truth[: len(state.stream)]:
            raise Violated("the live stream is not a beginning of the answer")
        if state.recorded and state.recorded != truth:
            raise Violated("what is recorded is not the answer")
        by_record = bool(state.recorded) and self.rules.prefers_the_recorded_end
        at = state.committed if self.rules.starts_at_the_committed_offset else state.visible
        if not by_record and self.folded(at, state.visible)[0] != truth:
            raise Violated("without the live stream the gateway can't get the whole text")


def _put(
    recorders: tuple[Recorder | None, ...], at: int, value: Recorder
) -> tuple[Recorder | None, ...]:
    return (*recorders[:at], value, *recorders[at + 1 :])
