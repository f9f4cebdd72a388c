"""The model of a worker process: the real state machine, and what a shell does around it."""

from dataclasses import replace
from typing import Any, NamedTuple
from uuid import UUID

from events.answers import Claim, ClaimId, End, Fold
from events.ids import AnswerId
from processors.answers import protocol
from processors.answers.protocol_words import (
    Acknowledge,
    Bounds,
    CancelAsked,
    EngineFailed,
    EngineFinished,
    Forget,
    Held,
    Hush,
    Input,
    Load,
    Loaded,
    Output,
    Said,
    Send,
    Speak,
    StartTimer,
    StopTimer,
    TimerFired,
)
from tests.protocol.explorer import Violated
from tests.protocol.log_model import Logs, fresh_id
from tests.protocol.setting import Setting

ANSWER = AnswerId(UUID(int=1))


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


class Effects(NamedTuple):
    machine: int
    sends: tuple[int, ...]
    acknowledged: bool


class Machines:
    """Every state of a process gets a number; every step is made once."""

    def __init__(self, setting: Setting, logs: Logs) -> None:
        self._setting = setting
        self._logs = logs
        self._bounds = Bounds(setting.claims_without_progress_max, 10_000, held_chunks_max=2)
        self._machines: list[Machine] = []
        self._numbers: dict[Machine, int] = {}
        self._effects: dict[tuple[int, Input, bool], Effects] = {}

    def __getitem__(self, number: int) -> Machine:
        return self._machines[number]

    def number(self, machine: Machine) -> int:
        number = self._numbers.get(machine)
        if number is None:
            number = self._numbers[machine] = len(self._machines)
            self._machines.append(machine)
        return number

    def take(self, number: int, w: int, said: Fold, cancelled: bool) -> Effects:
        machine = self._machines[number]
        held, outputs = protocol.hold(
            ANSWER,
            worker="AB"[w],
            model="m",
            generation=machine.generation,
            bounds=self._bounds,
            said=said,
        )
        if said.end is not None and not any(isinstance(out, Acknowledge) for out in outputs):
            raise Violated("work was begun on an answer that is known to have ended")
        return self._obey(machine._replace(held=held, told=False), outputs, cancelled)

    def put(self, number: int, w: int, put: Input, cancelled: bool) -> Effects:
        key = (number, put, cancelled)
        effects = self._effects.get(key)
        if effects is None:
            machine = self._machines[number]
            assert machine.held is not None
            held, outputs = protocol.step(machine.held, put, fresh_id(w, machine.ids + 1))
            machine = _after(machine._replace(held=held), put)
            effects = self._effects[key] = self._obey(machine, outputs, cancelled)
        return effects

    def _obey(self, machine: Machine, outputs: tuple[Output, ...], cancelled: bool) -> Effects:
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
                    sends.append(self._logs.record_id(record))
                case Speak(call=call, said=said):
                    assert machine.held is not None
                    assert machine.held.claim is not None
                    machine = machine._replace(engine=(call, machine.held.claim, said, 0))
                case Hush():
                    machine = machine._replace(engine=None)
                case StartTimer() | StopTimer():
                    machine = machine._replace(timer=isinstance(output, StartTimer))
                case Acknowledge():
                    acknowledged = True
                case Forget():
                    machine = Machine(machine.generation, machine.owned, ids=machine.ids)
        return Effects(self.number(_without_call_numbers(machine)), tuple(sends), acknowledged)

    def _may_be_poisonous(self) -> None:
        if not self._setting.poisonous:
            raise Violated("a duel: claims in a row without a word, and nobody failed so often")


def _after(machine: Machine, put: Input) -> Machine:
    changed: dict[str, Any] = {}
    match put:
        case Loaded():
            changed = {"loading": False}
        case TimerFired():
            changed = {"timer": False}
        case CancelAsked():
            changed = {"told": True}
        case EngineFinished() | EngineFailed():
            changed = {"engine": None}
        case Said(text=text):
            assert machine.engine is not None
            call, claim, before, said = machine.engine
            changed = {"engine": (call, claim, before + text, said + 1)}
    return machine._replace(**changed)


def _without_call_numbers(machine: Machine) -> Machine:
    """No old call speaks in this model: states that differ in the number alone are the same."""
    if machine.held is None or machine.held.call <= 1:
        return machine
    engine = machine.engine and (1, *machine.engine[1:])
    return machine._replace(held=replace(machine.held, call=1), engine=engine)
