"""The world of two workers: the log, their producers, the consumer group, engines, event store.

The machines and the fold are the real ones. A pause needs no move of its own: nothing here has to
happen soon, so any worker may sleep between any two of its moves while the rest of the world goes
on. Only timers tie time down: `claim_again_seconds` is longer than a session, so a timer that fires
before every worker has heard of the last rebalance is a fault (that worker was paused).

A worker's reads are the log in order. What a failed producer had under way (`limbo`) may land late,
in order, or get lost, each record for itself. What the event store says of an end may lag.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from events.answers import EMPTY, Claim, Fold, TokenRecord, entries
from processors.answers import protocol
from processors.answers.protocol_words import (
    CancelAsked,
    EngineFailed,
    Expired,
    Failure,
    GenerationChanged,
    Held,
    Input,
    Loaded,
    Phase,
    ProduceFailed,
    Read,
    TimerFired,
)
from tests.protocol.explorer import Violated
from tests.protocol.log_model import Engine, Logs, is_end
from tests.protocol.machine_model import Effects, Machine, Machines
from tests.protocol.setting import Setting

FIRST_GENERATION = 5
RESET_GENERATION = 1
WORKERS = (0, 1)
T = TypeVar("T")
Records = tuple[int, ...]


class World(NamedTuple):
    log: int
    generation: int
    owner: int
    acked: bool
    cancelled: bool
    faults: int
    machines: tuple[int, int]
    places: tuple[int, int]
    flights: tuple[Records, Records]
    limbos: tuple[Records, Records]


Moves = Iterator[tuple[str, bool, World]]


@dataclass
class WorkersWorld:
    """Two workers, one answer, one partition."""

    setting: Setting = field(default_factory=Setting)

    def __post_init__(self) -> None:
        self._engine = Engine(self.setting)
        self.logs = Logs(self.setting, self._engine)
        self._machines = Machines(self.setting, self.logs)

    def start(self) -> World:
        nobody = self._machines.number(Machine())
        return World(
            log=0,
            generation=FIRST_GENERATION,
            owner=0,
            acked=False,
            cancelled=False,
            faults=self.setting.faults,
            machines=(nobody, nobody),
            places=(0, 0),
            flights=((), ()),
            limbos=((), ()),
        )

    def unfinished(self, state: World) -> str | None:
        if self.logs.truth(state.log).end is None:
            return "the answer has no end"
        if not state.acked:
            return "the request is not acknowledged"
        return None

    def written(self) -> list[tuple[TokenRecord, ...]]:
        """Every log that was written."""
        return self.logs.all()

    # Moves ---------------------------------------------------------------------------------------

    def moves(self, state: World) -> Moves:
        calm = not any(self._has_news(state, w) for w in WORKERS)
        for w in WORKERS:
            if self._has_news(state, w):
                yield f"{'AB'[w]} hears of the group", True, self._news(state, w)
            held = self._machine(state, w).held
            if held is not None:
                yield from self._worker_moves(state, w, held, calm)
            yield from self._log_moves(state, w)
        if state.faults > 0:
            yield from self._faults(state._replace(faults=state.faults - 1))

    def _worker_moves(self, state: World, w: int, held: Held, calm: bool) -> Moves:
        name, machine = "AB"[w], self._machine(state, w)
        if state.places[w] < len(self.logs.logs[state.log]):
            yield self._read(state, w)
            if self.logs.truth(state.log).end is not None:
                return  # whatever else it does no longer counts
        if machine.loading:
            yield from self._loads(state, w)
        if machine.engine is not None and protocol.room(held):
            put = self._engine.says(*machine.engine)
            yield f"{name}'s engine: {type(put).__name__}", True, self._put(state, w, put)
        if machine.timer and calm:
            yield f"{name}'s timer fires", True, self._put(state, w, TimerFired())
        if state.cancelled and not machine.told:
            yield f"{name} hears of the cancel", True, self._put(state, w, CancelAsked())
        if self.setting.poisonous and held.phase is Phase.SPEAKING:
            yield f"{name} dies of the request", True, self._crash(state, w, 1 - w)

    def _loads(self, state: World, w: int) -> Moves:
        has_ended = self.logs.truth(state.log).end is not None
        for ended in sorted({state.acked, has_ended}):
            for cancelled in sorted({self._machine(state, w).cancelled_at_load, state.cancelled}):
                loaded = Loaded(ended, cancelled, expired=False, tokens_max=99)
                after = self._put(state, w, loaded)
                if ended and after.flights != state.flights:
                    raise Violated("a claim is written, and the end is recorded")
                known = ", ".join(["ended"] * ended + ["cancelled"] * cancelled) or "open"
                yield f"{'AB'[w]} loads ({known})", True, after

    def _log_moves(self, state: World, w: int) -> Moves:
        name, flight, limbo = "AB"[w], state.flights[w], state.limbos[w]
        if flight:
            after = state._replace(flights=_set(state.flights, w, flight[1:]))
            after = self._append(after, flight[0])
            if self.setting.acknowledge_on_delivery and is_end(self.logs.records[flight[0]]):
                after = self._acknowledge(after, w)
            yield f"{name}'s {self.logs.say(flight[0])} lands", True, after
        if limbo:
            rest = state._replace(limbos=_set(state.limbos, w, limbo[1:]))
            record = self.logs.say(limbo[0])
            yield f"{name}'s {record} lands late", True, self._append(rest, limbo[0])
            yield f"{name}'s {record} is lost", True, rest

    def _faults(self, state: World) -> Moves:
        """`state` has paid for the fault already."""
        kinds = self.setting.kinds
        if state.acked:
            owner = self._machine(state, state.owner)
            if "redeliver" in kinds and owner.owned and owner.held is None:
                yield "FAULT redeliver", False, self._take(state, state.owner, EMPTY)
            return
        risen = state.generation + 1
        if "move" in kinds:
            yield "FAULT move", False, state._replace(generation=risen, owner=1 - state.owner)
        if "give back" in kinds:
            yield "FAULT give back", False, state._replace(generation=risen)
        if "reset" in kinds and state.generation >= FIRST_GENERATION:
            for w in WORKERS:
                after = state._replace(generation=RESET_GENERATION, owner=w)
                yield f"FAULT reset, {'AB'[w]} owns", False, after
        if "cancel" in kinds and not state.cancelled:
            yield "FAULT cancel", False, state._replace(cancelled=True)
        if "repeat" in kinds:
            for record in sorted(set(self.logs.logs[state.log])):
                name = f"FAULT repeat {self.logs.say(record)}"
                yield name, False, self._append(state, record)
        for w in WORKERS:
            yield from self._worker_faults(state, w, kinds)

    def _worker_faults(self, state: World, w: int, kinds: frozenset[str]) -> Moves:
        name, machine = "AB"[w], self._machine(state, w)
        if "crash" in kinds and (machine.owned or state.flights[w]):
            for owner in WORKERS if state.owner == w else (state.owner,):
                yield f"FAULT crash of {name}", False, self._crash(state, w, owner)
        held = machine.held
        if held is None:
            return
        if "produce" in kinds and held.claim is not None:
            failed = self._put(self._to_limbo(state, w), w, ProduceFailed(held.claim))
            yield f"FAULT {name}'s producer fails", False, failed
        if "engine" in kinds and machine.engine is not None:
            put = EngineFailed(machine.engine[0], Failure.FAILED)
            yield f"FAULT {name}'s engine breaks", False, self._put(state, w, put)
        if "wake" in kinds and machine.timer:
            yield f"FAULT {name} wakes", False, self._put(state, w, TimerFired())
        if "expire" in kinds and not held.expired:
            yield f"FAULT {name}'s deadline", False, self._put(state, w, Expired())
        if "lose" in kinds and state.flights[w][1:]:
            lost, *rest = state.flights[w]
            if not isinstance(self.logs.records[lost], Claim):
                after = state._replace(flights=_set(state.flights, w, tuple(rest)))
                yield f"FAULT {name}'s {self.logs.say(lost)} is lost", False, after

    # What the moves are made of ------------------------------------------------------------------

    def _read(self, state: World, w: int) -> tuple[str, bool, World]:
        record = self.logs.logs[state.log][state.places[w]]
        state = state._replace(places=_set(state.places, w, state.places[w] + 1))
        after = self._put(state, w, Read(self.logs.records[record]))
        return f"{'AB'[w]} reads {self.logs.say(record)}", True, after

    def _has_news(self, state: World, w: int) -> bool:
        machine = self._machine(state, w)
        if state.owner != w:
            return machine.owned
        return not machine.owned or machine.generation != state.generation

    def _news(self, state: World, w: int) -> World:
        machine = self._machine(state, w)
        owned = state.owner == w
        seen = machine._replace(generation=state.generation if owned else 0, owned=owned)
        state = self._with(state, w, seen)
        if machine.held is not None:
            return self._put(state, w, GenerationChanged(state.generation, owned))
        if not owned or state.acked:
            return state
        begin = EMPTY if self.setting.fold_from_end else self.logs.truth(state.log)
        return self._take(state, w, begin)

    def _take(self, state: World, w: int, said: Fold) -> World:
        places = _set(state.places, w, len(self.logs.logs[state.log]))
        effects = self._machines.take(state.machines[w], w, said, state.cancelled)
        return self._apply(state._replace(places=places), w, effects)

    def _put(self, state: World, w: int, put: Input) -> World:
        return self._apply(state, w, self._machines.put(state.machines[w], w, put, state.cancelled))

    def _apply(self, state: World, w: int, effects: Effects) -> World:
        sent = self.logs.alive(state.flights[w] + effects.sends, state.log)
        state = state._replace(
            machines=_set(state.machines, w, effects.machine),
            flights=_set(state.flights, w, sent),
        )
        held = self._machines[effects.machine].held
        if held is None:
            state = state._replace(places=_set(state.places, w, 0))
        elif not state.acked:
            self._agrees(state, held.fold, state.places[w])
        return self._acknowledge(state, w) if effects.acknowledged else state

    def _agrees(self, state: World, seen: Fold, place: int) -> None:
        truth = self.logs.truths[state.log][place]
        if seen is not truth and seen != truth and entries(seen) != entries(truth):
            raise Violated("a worker's fold differs from the log's")

    def _acknowledge(self, state: World, w: int) -> World:
        """Kafka takes a commit of the present generation's member only."""
        if self.logs.truth(state.log).end is None:
            raise Violated("a request is acknowledged, and its answer has no end")
        machine = self._machine(state, w)
        valid = machine.owned and state.owner == w and machine.generation == state.generation
        return state._replace(acked=state.acked or valid)

    def _append(self, state: World, record: int) -> World:
        held = (self._machine(state, w).held for w in WORKERS)
        live = tuple(h.claim for h in held if h is not None and h.claim is not None)
        log = self.logs.append(state.log, record, live)
        a, b = state.flights
        late_a, late_b = state.limbos
        alive = self.logs.alive
        return state._replace(
            log=log,
            flights=(alive(a, log), alive(b, log)),
            limbos=(alive(late_a, log), alive(late_b, log)),
        )

    def _crash(self, state: World, w: int, owner: int) -> World:
        state = self._to_limbo(state, w)
        state = self._with(state, w, Machine(ids=self._machine(state, w).ids))
        return state._replace(
            owner=owner,
            generation=state.generation + (state.owner == w),
            places=_set(state.places, w, 0),
        )

    def _to_limbo(self, state: World, w: int) -> World:
        limbos = _set(state.limbos, w, state.limbos[w] + state.flights[w])
        return state._replace(limbos=limbos, flights=_set(state.flights, w, ()))

    def _machine(self, state: World, w: int) -> Machine:
        return self._machines[state.machines[w]]

    def _with(self, state: World, w: int, machine: Machine) -> World:
        return state._replace(machines=_set(state.machines, w, self._machines.number(machine)))


def _set(pair: tuple[T, T], at: int, value: T) -> tuple[T, T]:
    return (value, pair[1]) if at == 0 else (pair[0], value)
