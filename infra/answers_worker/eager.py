"""Running a coroutine up to its first wait without a task of its own.

A task costs a turn of the loop and some 20 us. What ends without a wait needs none; what waits goes
on in whatever task awaits the rest of it (as asyncio's eager tasks do, from Python 3.12 on).
"""

import types
from collections.abc import Coroutine, Generator
from typing import Any


async def rest_of(coroutine: Coroutine[Any, Any, Any], waiting_for: Any) -> Any:
    """Goes on with a coroutine that `begin` has begun."""
    return await _rest(coroutine, waiting_for)


def begin(coroutine: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any] | None:
    """None: it has ended. Else await what is returned: it is the rest. Raises what it raises."""
    try:
        waiting_for = coroutine.send(None)
    except StopIteration:
        return None
    return rest_of(coroutine, waiting_for)


@types.coroutine
def _rest(coroutine: Coroutine[Any, Any, Any], waiting_for: Any) -> Generator[Any, Any, Any]:
    try:
        while True:
            try:
                sent = yield waiting_for
            except BaseException as error:  # a cancellation, say: it is the coroutine's
                waiting_for = coroutine.throw(error)
            else:
                waiting_for = coroutine.send(sent)
    except StopIteration as ended:
        return ended.value
