"""The models that the fleet serves, kept in memory and asked for anew all the time."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from processors.answers.engine import Engine, EngineFailed
from processors.answers.scheduling.lately import Lately

logger = logging.getLogger("thalweg.gateway")

REFRESH_SECONDS = 5.0
"""A model that an engine begins to serve is offered after at most this long."""
REFRESH_UNKNOWN_SECONDS = 0.25
"""The same while no engine has answered yet: a start should not wait."""
ASK_SECONDS_MAX = 2.0


class ServedModels:
    """Implements gateway.ports.Models. An engine that is away keeps the models it had, and those of
    one that has gone are offered for `LATELY_SECONDS` more, after all others: a worker waits for an
    engine of theirs as long.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        models_by_alias: Mapping[str, str] | None = None,
        *,
        whole: bool = True,
    ) -> None:
        """An alias is offered while its model is served, after all models. Not `whole`: there are
        other engines, and it is not known yet where."""
        self._models_by_alias = models_by_alias or {}
        self._engines = tuple(engines)
        self._gone: list[Engine] = []
        self._changed = asyncio.Event()
        self._known: dict[str, tuple[str, ...]] = {}
        self._lately, self._whole = Lately(), whole
        self.reachable: frozenset[str] = frozenset()
        """The engines that answered when they were last asked."""

    async def ids(self) -> Sequence[str] | None:
        lately = list(self._lately.models(time.monotonic()))
        if not self._known and not lately:
            return None
        ordered = (self._known.get(engine.name, ()) for engine in self._engines)
        models = dict.fromkeys(model for models in (*ordered, lately) for model in models)
        aliases = [name for name, model in self._models_by_alias.items() if model in models]
        return tuple(dict.fromkeys((*models, *aliases)))

    async def may_serve(self, model: str) -> bool:
        served = await self.ids()
        if served is None or model in served:
            return True
        return not self._whole or any(engine.name not in self._known for engine in self._engines)

    def offers(self, model: str) -> bool:
        """Whether it is among `ids`; False while nobody knows."""
        model = self._models_by_alias.get(model, model)
        if any(model in known for known in self._known.values()):
            return True
        return model in self._lately.models(time.monotonic())

    def set_engines(self, engines: Sequence[Engine], *, whole: bool = True) -> None:
        """These are the engines from now on; those that have gone are closed with the next look."""
        names = {engine.name for engine in engines}
        self._gone += [engine for engine in self._engines if engine.name not in names]
        self._engines, self._whole = tuple(engines), whole
        for name in [name for name in self._known if name not in names]:
            self._lately.ceased(name, self._known.pop(name), time.monotonic())
        self._changed.set()

    async def close(self) -> None:
        gone, self._gone = self._gone, []
        for engine in (*self._engines, *gone):
            await engine.close()

    async def run(self) -> None:
        """Asks all engines, for ever."""
        while True:
            self._changed.clear()
            await self.refresh()
            seconds = REFRESH_SECONDS if self.reachable else REFRESH_UNKNOWN_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()

    async def refresh(self) -> None:
        while self._gone:
            await self._gone.pop().close()
        answered = await asyncio.gather(*(self._ask(engine) for engine in self._engines))
        reachable = frozenset(name for name in answered if name)
        if reachable != self.reachable:
            logger.info("engines that answer changed", extra={"engines": sorted(reachable)})
        self.reachable = reachable

    async def _ask(self, engine: Engine) -> str | None:
        try:
            async with asyncio.timeout(ASK_SECONDS_MAX):
                models = await engine.models()
        except (EngineFailed, TimeoutError):
            return None
        if engine in self._engines:  # it has not gone meanwhile
            gone = [one for one in self._known.get(engine.name, ()) if one not in models]
            self._lately.ceased(engine.name, gone, time.monotonic())
            self._known[engine.name] = models
        return engine.name
