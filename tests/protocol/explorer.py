"""A small explorer: visits every state that a world can reach, breadth first.

A world is a set of moves. A move is *free* (the system makes it sooner or later) or a *fault* (it
may happen, within the world's budget). Three things are checked:

- safety: a world raises `Violated` while a state is made;
- liveness: a state without a free move must be one where everything is done. No fairness is
  assumed, so it holds under every schedule, not only under fair ones;
- that nothing goes on for ever: moves only add (records, reads, words), so there is no cycle, and
  the number of states is finite if and only if every trace ends. A world bounds its log.
"""

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

State = TypeVar("State", bound=Hashable)


class Violated(Exception):
    """A check failed. The message says which."""


class World(Protocol[State]):
    def start(self) -> State: ...

    def moves(self, state: State) -> Iterator[tuple[str, bool, State]]:
        """What can happen next: what it is called, whether it is free, and the state after it."""
        ...

    def unfinished(self, state: State) -> str | None:
        """What is missing in a state where nothing moves any more; None if nothing is."""
        ...


@dataclass(frozen=True)
class Counterexample:
    problem: str
    trace: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(
            (self.problem, *(f"  {n}. {move}" for n, move in enumerate(self.trace, 1)))
        )


@dataclass(frozen=True)
class Explored:
    states: int
    ends: int
    """States in which everything is done."""
    counterexample: Counterexample | None


def explore(world: World[State], *, states_max: int = 20_000_000) -> Explored:
    """Stops at the first counterexample, which is one of the shortest."""
    start = world.start()
    came_from: dict[State, tuple[State, str] | None] = {start: None}
    waiting = deque([start])
    ends = 0

    def failed(problem: str, state: State, *last: str) -> Explored:
        moves = list(last)
        step = came_from[state]
        while step is not None:
            moves.append(step[1])
            step = came_from[step[0]]
        return Explored(len(came_from), ends, Counterexample(problem, tuple(reversed(moves))))

    while waiting:
        state = waiting.popleft()
        stuck = True
        moves = world.moves(state)
        name = "?"
        try:
            for name, free, after in moves:
                stuck = stuck and not free
                if after not in came_from:
                    came_from[after] = (state, name)
                    waiting.append(after)
        except Violated as violated:
            return failed(str(violated), state)
        if len(came_from) > states_max:
            return failed(f"more than {states_max} states: is there a trace without an end?", state)
        if stuck:
            missing = world.unfinished(state)
            if missing is not None:
                return failed(f"nothing moves any more, but {missing}", state)
            ends += 1
    return Explored(len(came_from), ends, None)
