"""One query for what many ask one by one.

Whatever is asked while a query is under way goes into the next, so that alone a question is asked
at once, and under load each query, with its way to a thread and to Postgres and back, serves many.
A question is only ever answered by a query that began after it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

from commands.errors import StoreUnavailable

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

QUERIES_MAX = 2
"""At a time: a large answer to one does not hold up everybody, and one reader stays free."""
KEYS_PER_QUERY_MAX = 64
"""Twice what one process asks for at a time; the answer to a query is held in memory at once."""


class Gathered(Generic[K, V]):
    """Lives on one event loop. `ask` answers all keys that it is given; an exception among the
    values is the answer to that one key alone."""

    def __init__(
        self,
        ask: Callable[[Sequence[K]], Awaitable[Mapping[K, V | Exception]]],
        *,
        seconds_max: float,
    ) -> None:
        self._ask = ask
        self._seconds_max = seconds_max
        self._waiting: OrderedDict[K, list[asyncio.Future[V]]] = OrderedDict()
        self._under_way: set[asyncio.Task[None]] = set()
        self._beginning = False

    async def get(self, key: K) -> V:
        """Raises what `ask` raises or says of the key, and StoreUnavailable after the bound."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[V] = loop.create_future()
        self._waiting.setdefault(key, []).append(answer)
        if not self._beginning and len(self._under_way) < QUERIES_MAX:
            self._beginning = True
            loop.call_soon(self._begin)  # what is asked in this turn of the loop comes along
        try:
            async with asyncio.timeout(self._seconds_max):
                return await answer
        except TimeoutError:
            raise StoreUnavailable("no answer in time") from None

    def _begin(self) -> None:
        self._beginning = False
        asked: dict[K, list[asyncio.Future[V]]] = {}
        while self._waiting and len(asked) < KEYS_PER_QUERY_MAX:
            key, answers = self._waiting.popitem(last=False)
            if wanted := [answer for answer in answers if not answer.done()]:
                asked[key] = wanted
        if asked:
            task = asyncio.create_task(self._query(asked))
            self._under_way.add(task)
            task.add_done_callback(self._ended)

    async def _query(self, asked: Mapping[K, Sequence["asyncio.Future[V]"]]) -> None:
        found: Mapping[K, V | Exception]
        try:
            found = await self._ask(list(asked))
        except Exception as error:
            found = dict.fromkeys(asked, error)
        for key, answers in asked.items():
            result = found[key]
            for answer in answers:
                if answer.done():
                    continue  # whoever asked has gone
                if isinstance(result, Exception):
                    answer.set_exception(result)
                else:
                    answer.set_result(result)

    def _ended(self, query: "asyncio.Task[None]") -> None:
        self._under_way.discard(query)
        if self._waiting and not query.cancelled():
            self._begin()
