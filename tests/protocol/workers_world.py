"""The model around two workers' state machines: log, producers, consumer group, engines, store.

The machines and the fold are the real ones. A pause needs no move of its own: nothing here has to
happen soon, so any worker may sleep between any two of its moves while the rest of the world goes
on. Only timers tie time down: `claim_again_seconds` is longer than a session, so a timer that fires
before every worker has heard of the last rebalance is a fault (that worker was paused).

A worker's reads are the log in order. What a failed producer had under way (`limbo`) may land late,
in order, or get lost, each record for itself. An engine's text says what it continues: each
character stands for the text before it and the claim it was said under, so a splice shows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from uuid import UUID

from events.answers import EMPTY, Chunk, Claim, ClaimId, End, Fold, TokenRecord, entries
from events.answers import fold as real_fold
from events.ids import AnswerId
from processors.answers import protocol
from processors.answers.engine import FinishReason
from processors.answers.protocol_words import (
    Acknowledge,
    Bounds,
    CancelAsked,
    EngineFailed,
    EngineFinished,
    Expired,
    Failure,
    Forget,
    GenerationChanged,
    Held,
    Hush,
    Input,
    Load,
    Loaded,
    Phase,
    ProduceFailed,
    Read,
    Said,
    Send,
    Speak,
    StartTimer,
    StopTimer,
    TimerFired,
)
from tests.protocol.explorer import Violated

ANSWER = AnswerId(UUID(int=1))
FIRST_GENERATION = 5
RESET_GENERATION = 1
LATE = " (late)"

Fault = str
FAULTS: frozenset[Fault] = frozenset(
    {
        "crash",  # a worker loses everything, and starts again
        "move",  # the partition goes to the other worker
        "give back",  # a rebalance that changes no owner
        "reset",  # the group's generation starts again at lower numbers
        "produce",  # a worker's producer reports a failure; what was under way may land late
        "wake",  # a timer fires although a worker has not heard of the last rebalance
        "engine",  # an engine breaks
        "repeat",  # a record stands in the log twice
        "cancel",
        "expire",
        "redeliver",  # the request stands in its topic twice, the second time after the end
    }
)
BEYOND_KAFKA: frozenset[Fault] = frozenset({"lose"})
"""A record that Kafka had taken is lost, and nobody is told: no setting of ours allows it."""


class Machine(NamedTuple):
    """What one worker process knows, but for its place in the log."""

    generation: int = 0
    owned: bool = False
    held: Held | None = None
    engine: tuple[int, ClaimId, str, int] | None = None
    """Call, claim, everything said so far, how much of it by this call."""
    timer: bool = False
    loading: bool = False
    cancelled_at_load: bool = False
    """What it reads may be that old."""
    ids: int = 0
    """Claim ids given out; they outlive a crash, since ids are never given twice."""
    told: bool = False
    """It was told of the cancel."""


class World(NamedTuple):
    log: int
    generation: int
    owner: int
    acked: bool
    cancelled: bool
    faults: int
    machines: tuple[int, int]
    places: tuple[int, int]
    flights: tuple[tuple[int, ...], tuple[int, ...]]
    limbos: tuple[tuple[int, ...], tuple[int, ...]]


class Effects(NamedTuple):
    machine: int
    sends: tuple[int, ...]
    acknowledged: bool


@dataclass(frozen=True)
class Setting:
    """What is explored: the work, the faults, and (for rules that are taken out) the world's own."""

    chunks: int = 2
    faults: int = 2
    kinds: frozenset[Fault] = FAULTS
    call_tokens_max: int = 99
    """An engine gives no more a call."""
    poisonous: bool = False
    """Whoever has claimed and speaks dies."""
    claims_without_progress_max: int = 12
    """So high that the faults cannot reach it: reaching it means a duel."""
    log_records_max: int = 40
    fold: Callable[[Fold, TokenRecord], Fold] = real_fold
    acknowledge_on_delivery: bool = False
    fold_from_end: bool = False
    prune: bool = True
    claims_max: int = 99
    """More claims than this in one log are a waste."""


@dataclass
class WorkersWorld:
    """Two workers, one answer, one partition."""

    setting: Setting = field(default_factory=Setting)

    def __post_init__(self) -> None:
        self.bounds = Bounds(self.setting.claims_without_progress_max, 10_000, held_chunks_max=2)
        self._machines: list[Machine] = []
        self._machine_ids: dict[Machine, int] = {}
        self.records: list[TokenRecord] = []
        self._record_ids: dict[TokenRecord, int] = {}
        self.logs: list[tuple[int, ...]] = [()]
        self.truths: list[tuple[Fold, ...]] = [(EMPTY,)]
        """For each log: the fold of each of its beginnings."""
        self._longer: dict[tuple[int, int], int] = {}
        self._pruned: dict[tuple[Any, ...], tuple[int, ...]] = {}
        self._without_effect: set[tuple[int, int]] = set()
        self._symbols: dict[tuple[str, ClaimId], str] = {}
        self._said_before: dict[str, str] = {}
        self._effects: dict[tuple[Any, ...], Effects] = {}

    # The state -----------------------------------------------------------------------------------

    def start(self) -> World:
        nobody = self._machine_id(Machine())
        none: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
        return World(
            log=0,
            generation=FIRST_GENERATION,
            owner=0,
            acked=False,
            cancelled=False,
            faults=self.setting.faults,
            machines=(nobody, nobody),
            places=(0, 0),
            flights=none,
            limbos=none,
        )

    def unfinished(self, state: World) -> str | None:
        if self.truths[state.log][-1].end is None:
            return "the answer has no end"
        if not state.acked:
            return "the request is not acknowledged"
        return None

    def all_logs(self) -> list[tuple[TokenRecord, ...]]:
        """Every log that was written, without those that another one continues."""
        parents = {shorter for shorter, _ in self._longer}
        return [
            tuple(self.records[n] for n in log)
            for number, log in enumerate(self.logs)
            if number not in parents
        ]

    # Moves ---------------------------------------------------------------------------------------

    def moves(self, state: World) -> Iterator[tuple[str, bool, World]]:
        for w in (0, 1):
            if self._reads_in_passing(state, w):
                yield self._read(state, w)
                return
        calm = not any(self._has_news(state, w) for w in (0, 1))
        for w in (0, 1):
            yield from self._worker_moves(state, w, calm)
            yield from self._log_moves(state, w)
        if state.faults > 0 and not state.acked:
            yield from self._faults(state._replace(faults=state.faults - 1))
        if state.faults > 0 and state.acked and "redeliver" in self.setting.kinds:
            owner = self._machines[state.machines[state.owner]]
            if owner.owned and owner.held is None:
                paid = state._replace(faults=state.faults - 1)
                yield "FAULT redeliver", False, self._take(paid, state.owner, EMPTY)

    def _worker_moves(self, state: World, w: int, calm: bool) -> Iterator[tuple[str, bool, World]]:
        name = "AB"[w]
        machine = self._machines[state.machines[w]]
        held = machine.held
        if self._has_news(state, w):
            yield f"{name} hears of the group", True, self._news(state, w)
        if held is None:
            return
        if state.places[w] < len(self.logs[state.log]):
            yield self._read(state, w)
            if self.truths[state.log][-1].end is not None:
                return  # whatever else it does no longer counts
        if machine.loading:
            for ended in {state.acked, self.truths[state.log][-1].end is not None}:
                for cancelled in {machine.cancelled_at_load, state.cancelled}:
                    loaded = Loaded(ended, cancelled, expired=False, tokens_max=99)
                    words = f"ended: {ended}, cancelled: {cancelled}"
                    after = self._input(state, w, loaded)
                    if ended and after.flights != state.flights:
                        raise Violated("a claim is written, and the end is recorded")
                    yield f"{name} loads ({words})", True, after
        if machine.engine is not None and protocol.room(held):
            put = self._engine_says(machine.engine)
            yield f"{name}'s engine: {type(put).__name__}", True, self._input(state, w, put)
        if machine.timer and calm:
            yield f"{name}'s timer fires", True, self._input(state, w, TimerFired())
        if state.cancelled and not machine.told:
            yield f"{name} hears of the cancel", True, self._input(state, w, CancelAsked())
        if self.setting.poisonous and held.phase is Phase.SPEAKING:
            yield f"{name} dies of the request", True, self._crash(state, w, 1 - w)

    def _log_moves(self, state: World, w: int) -> Iterator[tuple[str, bool, World]]:
        name, flight, limbo = "AB"[w], state.flights[w], state.limbos[w]
        if flight:
            after = self._append(state, flight[0])
            after = after._replace(flights=_put(state.flights, w, flight[1:]))
            if self.setting.acknowledge_on_delivery and isinstance(self.records[flight[0]], End):
                after = self._acknowledge(after, w)
            yield f"{name}'s {self._say(flight[0])} lands", True, after
        if limbo:
            rest = state._replace(limbos=_put(state.limbos, w, limbo[1:]))
            yield f"{name}'s {self._say(limbo[0])} lands{LATE}", True, self._append(rest, limbo[0])
            yield f"{name}'s {self._say(limbo[0])} is lost", True, rest

    def _faults(self, state: World) -> Iterator[tuple[str, bool, World]]:
        """`state` has paid for the fault already."""
        kinds = self.setting.kinds
        risen = state.generation + 1
        if "move" in kinds:
            yield "FAULT move", False, state._replace(generation=risen, owner=1 - state.owner)
        if "give back" in kinds:
            yield "FAULT give back", False, state._replace(generation=risen)
        if "reset" in kinds and state.generation >= FIRST_GENERATION:
            for owner in (0, 1):
                after = state._replace(generation=RESET_GENERATION, owner=owner)
                yield f"FAULT reset, {'AB'[owner]} owns", False, after
        if "cancel" in kinds and not state.cancelled:
            yield "FAULT cancel", False, state._replace(cancelled=True)
        if "repeat" in kinds:
            for record in set(self.logs[state.log]):
                yield f"FAULT repeat {self._say(record)}", False, self._append(state, record)
        for w in (0, 1):
            name = "AB"[w]
            machine = self._machines[state.machines[w]]
            if "crash" in kinds and (machine.owned or state.flights[w]):
                for owner in (0, 1) if state.owner == w else (state.owner,):
                    yield f"FAULT crash of {name}", False, self._crash(state, w, owner)
            held = machine.held
            if held is None:
                continue
            if "produce" in kinds and held.claim is not None:
                failed = self._to_limbo(state, w)
                after = self._input(failed, w, ProduceFailed(held.claim))
                yield f"FAULT {name}'s producer fails", False, after
            if "engine" in kinds and machine.engine is not None:
                put = EngineFailed(machine.engine[0], Failure.FAILED)
                yield f"FAULT {name}'s engine breaks", False, self._input(state, w, put)
            if "wake" in kinds and machine.timer:
                yield f"FAULT {name} wakes", False, self._input(state, w, TimerFired())
            if "lose" in kinds and state.flights[w][1:]:
                lost = state.flights[w][0]
                if not isinstance(self.records[lost], Claim):
                    flights = _put(state.flights, w, state.flights[w][1:])
                    after = state._replace(flights=flights)
                    yield f"FAULT {name}'s {self._say(lost)} is lost", False, after
            if "expire" in kinds and not held.expired:
                yield f"FAULT {name}'s deadline", False, self._input(state, w, Expired())

    def _read(self, state: World, w: int) -> tuple[str, bool, World]:
        record = self.logs[state.log][state.places[w]]
        places = _put(state.places, w, state.places[w] + 1)
        after = self._input(state._replace(places=places), w, Read(self.records[record]))
        return f"{'AB'[w]} reads {self._say(record)}", True, after

    def _reads_in_passing(self, state: World, w: int) -> bool:
        """Whether the next record changes nothing but the fold, and the fold's next index (not 0
        before or after) plays no part in any other move. Then to read it first is enough."""
        held, place = self._machines[state.machines[w]].held, state.places[w]
        if held is None or held.more or place == len(self.logs[state.log]):
            return False
        number = self.logs[state.log][place]
        before, after = self.truths[state.log][place : place + 2]
        record = self.records[number]
        if before is after:
            return record.claim != held.claim
        return isinstance(record, Chunk) and before.next_index > 0 and not self.setting.poisonous

    # What the moves are made of ------------------------------------------------------------------

    def _has_news(self, state: World, w: int) -> bool:
        machine = self._machines[state.machines[w]]
        if state.owner != w:
            return machine.owned
        return not machine.owned or machine.generation != state.generation

    def _news(self, state: World, w: int) -> World:
        machine = self._machines[state.machines[w]]
        owned = state.owner == w
        if machine.held is not None:
            seen = machine._replace(generation=state.generation if owned else 0, owned=owned)
            state = self._with(state, w, seen)
            return self._input(state, w, GenerationChanged(state.generation, owned))
        if not owned:
            return self._with(state, w, machine._replace(generation=0, owned=False))
        seen = machine._replace(generation=state.generation, owned=True)
        state = self._with(state, w, seen)
        return state if state.acked else self._take(state, w)

    def _take(self, state: World, w: int, said: Fold | None = None) -> World:
        if said is None:
            said = EMPTY if self.setting.fold_from_end else self.truths[state.log][-1]
        held, outputs = protocol.hold(
            ANSWER,
            worker="AB"[w],
            model="m",
            generation=state.generation,
            bounds=self.bounds,
            said=said,
        )
        if said.end and not any(isinstance(out, Acknowledge) for out in outputs):
            raise Violated("work was begun on an answer that is known to have ended")
        machine = self._machines[state.machines[w]]._replace(held=held, told=False)
        effects = self._obey(machine, outputs, state.cancelled)
        places = _put(state.places, w, len(self.logs[state.log]))
        return self._apply(state._replace(places=places), w, effects)

    def _input(self, state: World, w: int, put: Input) -> World:
        key = (state.machines[w], put, state.cancelled)
        effects = self._effects.get(key)
        if effects is None:
            machine = self._machines[state.machines[w]]
            assert machine.held is not None
            fresh = UUID(int=(w + 1) * 1000 + machine.ids + 1)
            held, outputs = protocol.step(machine.held, put, fresh)
            machine = machine._replace(held=held)
            if isinstance(put, Loaded):
                machine = machine._replace(loading=False)
            elif isinstance(put, TimerFired):
                machine = machine._replace(timer=False)
            elif isinstance(put, CancelAsked):
                machine = machine._replace(told=True)
            elif isinstance(put, EngineFinished | EngineFailed):
                if machine.engine is not None and machine.engine[0] == put.call:
                    machine = machine._replace(engine=None)
            elif isinstance(put, Said) and machine.engine is not None:
                call, claim, text, said = machine.engine
                machine = machine._replace(engine=(call, claim, text + put.text, said + 1))
            effects = self._obey(machine, outputs, state.cancelled)
            self._effects[key] = effects
        return self._apply(state, w, effects)

    def _obey(
        self, machine: Machine, outputs: tuple[Any, ...], cancelled: bool
    ) -> Effects:
        """What a shell does."""
        sends: list[int] = []
        acknowledged = False
        for output in outputs:
            match output:
                case Load():
                    machine = machine._replace(loading=True, cancelled_at_load=cancelled)
                case Send(record):
                    if isinstance(record, Claim):
                        machine = machine._replace(ids=machine.ids + 1)
                        if not machine.owned:
                            raise Violated("a worker without the partition claims")
                    if isinstance(record, End) and record.reason == "poisonous":
                        self._may_be_poisonous()
                    sends.append(self._record_id(record))
                case Speak(call=call, said=said):
                    assert machine.held is not None
                    assert machine.held.claim is not None
                    machine = machine._replace(engine=(call, machine.held.claim, said, 0))
                case Hush():
                    machine = machine._replace(engine=None)
                case StartTimer():
                    machine = machine._replace(timer=True)
                case StopTimer():
                    machine = machine._replace(timer=False)
                case Acknowledge():
                    acknowledged = True
                case Forget():
                    machine = Machine(machine.generation, machine.owned, ids=machine.ids)
        if machine.held is not None and machine.held.call > 1:  # no old call speaks in this model
            engine = machine.engine and (1, *machine.engine[1:])
            machine = machine._replace(held=replace(machine.held, call=1), engine=engine)
        return Effects(self._machine_id(machine), tuple(sends), acknowledged)

    def _apply(self, state: World, w: int, effects: Effects) -> World:
        flights = state.flights
        if effects.sends:
            flights = _put(flights, w, flights[w] + effects.sends)
        machines = _put(state.machines, w, effects.machine)
        after = self._prune(state._replace(machines=machines, flights=flights))
        machine = self._machines[effects.machine]
        if machine.held is None:
            after = after._replace(places=_put(after.places, w, 0))
        elif not after.acked:
            self._agrees(after, machine.held.fold, after.places[w])
        return self._acknowledge(after, w) if effects.acknowledged else after

    def _acknowledge(self, state: World, w: int) -> World:
        """Kafka takes a commit of the present generation's member only."""
        if self.truths[state.log][-1].end is None:
            raise Violated("a request is acknowledged, and its answer has no end")
        machine = self._machines[state.machines[w]]
        valid = machine.owned and state.owner == w and machine.generation == state.generation
        return state._replace(acked=state.acked or valid)

    def _append(self, state: World, record: int) -> World:
        key = (state.log, record)
        if key in self._without_effect and not self._is_live(state, record):
            return state
        longer = self._longer.get(key)
        if longer is None:
            log, truths = self.logs[state.log], self.truths[state.log]
            if len(log) >= self.setting.log_records_max:
                raise Violated("the log grows without end")
            claims = sum(isinstance(self.records[n], Claim) for n in (*log, record))
            if claims > self.setting.claims_max:
                raise Violated("a claim more than is needed")
            truth = self.setting.fold(truths[-1], self.records[record])
            self._check_truth(truths[-1], truth)
            if truth is truths[-1]:
                self._without_effect.add(key)
                if not self._is_live(state, record):
                    return state
            longer = len(self.logs)
            self.logs.append((*log, record))
            self.truths.append((*truths, truth))
            self._longer[key] = longer
        return self._prune(state._replace(log=longer))

    def _prune(self, state: World) -> World:
        """Leaves away what is under way and can never count, whenever it lands: by the fold's own
        rules (so not when they are what is tested). The sender, if it still listens, is told by the
        record that made it so, which stands before it in the log."""
        if not self.setting.prune or not any((*state.flights, *state.limbos)):
            return state
        truth = self.truths[state.log][-1]
        if truth.claim is None:
            return state
        flights, limbos = (
            (self._alive(pair[0], truth), self._alive(pair[1], truth))
            for pair in (state.flights, state.limbos)
        )
        return state._replace(flights=flights, limbos=limbos)

    def _alive(self, records: tuple[int, ...], truth: Fold) -> tuple[int, ...]:
        if not records:
            return records
        key = (records, truth.claim, truth.next_index, truth.end is None)
        alive = self._pruned.get(key)
        if alive is None:
            alive = self._pruned[key] = tuple(
                n for n in records if not _is_dead(self.records[n], truth)
            )
        return alive

    def _is_live(self, state: World, record: int) -> bool:
        """A machine may yet find out that its own record does not count. For everybody else a
        record that does not count is as if it were not there; so the model leaves it away."""
        claim = self.records[record].claim
        return any(
            held is not None and held.claim == claim
            for held in (self._machines[n].held for n in state.machines)
        )

    def _crash(self, state: World, w: int, owner: int) -> World:
        state = self._to_limbo(state, w)
        ids = self._machines[state.machines[w]].ids
        state = self._with(state, w, Machine(ids=ids))
        rises = state.owner == w
        return state._replace(
            owner=owner,
            generation=state.generation + rises,
            places=_put(state.places, w, 0),
        )

    def _to_limbo(self, state: World, w: int) -> World:
        limbos = _put(state.limbos, w, state.limbos[w] + state.flights[w])
        return state._replace(limbos=limbos, flights=_put(state.flights, w, ()))

    def _with(self, state: World, w: int, machine: Machine) -> World:
        return state._replace(machines=_put(state.machines, w, self._machine_id(machine)))

    def _engine_says(self, engine: tuple[int, ClaimId, str, int]) -> Said | EngineFinished:
        call, claim, text, said = engine
        if len(text) < self.setting.chunks and said >= self.setting.call_tokens_max:
            return EngineFinished(call, FinishReason.LENGTH)
        symbol = self._symbols.get((text, claim))
        if symbol is None:
            symbol = chr(0x4E00 + len(self._symbols))
            self._symbols[text, claim] = symbol
            self._said_before[symbol] = text
        if len(text) < self.setting.chunks:
            return Said(call, symbol, 1)
        return EngineFinished(call, FinishReason.STOP, symbol, 1)

    # Checks --------------------------------------------------------------------------------------

    def _check_truth(self, before: Fold, after: Fold) -> None:
        """Every reader's state is the fold of some beginning of the log, so this is about them all."""
        shown, shows = entries(before), entries(after)
        if shows[: len(shown)] != shown:
            raise Violated("what a reader was shown was taken back")
        if before.end is not None and len(shows) > len(shown):
            raise Violated("something follows the end")
        text = "".join(entry.text for entry in shown)
        for entry in shows[len(shown) :]:
            if entry.text and self._said_before[entry.text] != text:
                raise Violated("two texts are spliced: this was not said after what stands before")
            text += entry.text
        if len(shows) > len(shown) and [e.index for e in shows] != list(range(len(shows))):
            raise Violated("the indexes are not dense")
        end = after.end
        if before.end is None and end is not None and end.kind.value == "finish":
            if len(text) != self.setting.chunks + 1:
                raise Violated("the answer is not whole")

    def _agrees(self, state: World, seen: Fold, place: int) -> None:
        truth = self.truths[state.log][place]
        if seen is not truth and seen != truth and entries(seen) != entries(truth):
            raise Violated("a worker's fold differs from the log's")

    def _may_be_poisonous(self) -> None:
        if not self.setting.poisonous:
            raise Violated("a duel: claims in a row without a word, and nobody failed so often")

    # Names ---------------------------------------------------------------------------------------

    def _machine_id(self, machine: Machine) -> int:
        number = self._machine_ids.get(machine)
        if number is None:
            number = self._machine_ids[machine] = len(self._machines)
            self._machines.append(machine)
        return number

    def _record_id(self, record: TokenRecord) -> int:
        number = self._record_ids.get(record)
        if number is None:
            number = self._record_ids[record] = len(self.records)
            self.records.append(record)
        return number

    def _say(self, number: int) -> str:
        record = self.records[number]
        claim = f"({record.claim.epoch}, {'AB'[record.claim.id.int // 1000 - 1]}{record.claim.id.int % 1000})"
        if isinstance(record, Claim):
            return f"claim {claim}"
        if isinstance(record, Chunk):
            return f"chunk {record.index} of {claim}"
        return f"end {record.index} ({record.reason}) of {claim}"


def _is_dead(record: TokenRecord, truth: Fold) -> bool:
    if truth.end is not None or truth.claim is None:
        return truth.end is not None
    if isinstance(record, Claim):
        return record.claim <= truth.claim
    return record.claim < truth.claim or (
        record.claim == truth.claim and record.index < truth.next_index
    )


def _put(pair: tuple[Any, Any], at: int, value: Any) -> tuple[Any, Any]:
    return (value, pair[1]) if at == 0 else (pair[0], value)
