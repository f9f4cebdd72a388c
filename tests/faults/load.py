"""Clients as they are in the field. Streamers ask and read, and come again with their cursors;
commanders rename, post, cancel, repeat themselves, send what must be refused, and read back."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import Any

from tests.faults.case import Load
from tests.faults.door import Command, Door
from tests.faults.history import History, Kind
from tests.fixtures.thalweg import RunningThalweg

TURNS_OF_A_CONVERSATION = 3
REPEATED_SHARE = 0.2
"""Of accepted posts and renames: sent once more, with the same key."""
COMMAND_SECONDS = 1.0
"""Between a commander's commands."""
CANCELLED_TOKENS = 100
"""Of an answer of a commander: at 20 ms each, there is time to cancel it."""
BEGUN_SECONDS_MAX = 180


class Clients:
    """All of them, each a task."""

    def __init__(
        self, thalweg: RunningThalweg, history: History, load: Load, random: Random
    ) -> None:
        self._load, self._random = load, random
        self._stopping = asyncio.Event()
        self.streamers = [
            Streamer(self._door(thalweg, history, number), self._stopping, load, self._fork())
            for number in range(1, load.streamers + 1)
        ]
        first = load.streamers + 1
        self.commanders = [
            Commander(self._door(thalweg, history, number), self._stopping, load, self._fork())
            for number in range(first, first + load.commanders)
        ]
        everybody: list[Client] = [*self.streamers, *self.commanders]
        self._tasks = [asyncio.create_task(client.live()) for client in everybody]

    @property
    def doors(self) -> list[Door]:
        return [client.door for client in (*self.streamers, *self.commanders)]

    @staticmethod
    def _door(thalweg: RunningThalweg, history: History, number: int) -> Door:
        return Door(history, thalweg.url, thalweg.api_key, number)

    def _fork(self) -> Random:
        return Random(self._random.getrandbits(64))

    async def begun(self) -> None:
        """Every streamer has seen the first chunk of an answer."""
        async with asyncio.timeout(BEGUN_SECONDS_MAX):
            await asyncio.gather(*(client.begun.wait() for client in self.streamers))

    async def finish(self, seconds_max: float) -> None:
        """Nobody begins anything more; what is under way is seen to its end, if there is one."""
        self._stopping.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds_max)
        await self.abandon()

    async def abandon(self) -> None:
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


class Client:
    def __init__(self, door: Door, stopping: asyncio.Event, load: Load, random: Random) -> None:
        self.door, self._stopping, self._load, self._random = door, stopping, load, random
        self._model = load.models[door.number % len(load.models)]
        self.begun = asyncio.Event()

    async def live(self) -> None:
        async with self.door:
            await self._live()

    async def _live(self) -> None:
        raise NotImplementedError

    async def _start(self) -> str:
        command = Command("start", "POST", "/api/conversations", {}, self._key("start"))
        return str((await self.door.insist(command)).body["conversation"])

    def _key(self, what: str) -> str:
        return f"{what}-{self._random.getrandbits(64):016x}"

    def _post(self, conversation: str, parent: str | None, tokens: int) -> Command:
        content = f"tokens={tokens} delay_ms={self._load.delay_ms}{self._load.text}"
        body = {"content": content, "parent": parent, "model": self._model}
        return self._about(
            "post", "POST", conversation, "/messages", body, content=content, tokens=tokens
        )

    def _about(
        self,
        what: str,
        method: str,
        conversation: str,
        rest: str,
        body: dict[str, Any],
        **facts: Any,
    ) -> Command:
        path = f"/api/conversations/{conversation}{rest}"
        facts["conversation"] = conversation
        return Command(what, method, path, body, self._key(what), facts)

    async def _perhaps_again(self, command: Command) -> None:
        if self._random.random() < REPEATED_SHARE:
            await self.door.insist(command)


class Streamer(Client):
    """Turn after turn, and a new conversation now and then."""

    async def _live(self) -> None:
        while not self._stopping.is_set():
            conversation = await self._start()
            parent: str | None = None
            for _ in range(TURNS_OF_A_CONVERSATION):
                post = self._post(conversation, parent, self._random.randint(*self._load.tokens))
                accepted = await self.door.insist(post)
                if accepted.kind is not Kind.OK:
                    return  # the checker has it in the history
                parent = str(accepted.body["answer"])
                await self._perhaps_again(post)
                await self.door.follow(parent, begun=self.begun)
                if self._stopping.is_set():
                    return


class Commander(Client):
    """A command a second, in one conversation. Sometimes it leaves what it knows no outcome of."""

    async def _live(self) -> None:
        self._conversation = await self._start()
        self._parent: str | None = None
        self._answering: str | None = None
        self._following: asyncio.Task[str] | None = None
        clock = asyncio.get_running_loop()
        due = clock.time() + self._random.random() * COMMAND_SECONDS
        try:
            while not self._stopping.is_set():
                await asyncio.sleep(max(0.0, due - clock.time()))
                due = max(due, clock.time() - COMMAND_SECONDS) + COMMAND_SECONDS
                await self._choose()()
            if self._following is not None:
                await self._following
        finally:
            if self._following is not None:
                self._following.cancel()
                await asyncio.gather(self._following, return_exceptions=True)

    def _choose(self) -> Callable[[], Awaitable[None]]:
        if self._following is not None and self._following.done():
            self._parent, self._answering, self._following = self._answering, None, None
        wishes = [self._rename, self._rename, self._rename_and_leave, self._post_stale]
        if self._answering is None:
            wishes += [self._ask, self._ask]
        else:
            wishes += [self._cancel]
        return self._random.choice(wishes)

    def _renaming(self) -> Command:
        title = self._key("title")
        return self._about("rename", "PATCH", self._conversation, "", {"title": title}, title=title)

    async def _rename(self) -> None:
        renaming = self._renaming()
        accepted = await self.door.insist(renaming)
        if accepted.kind is Kind.OK:
            await self.door.read(self._conversation, str(accepted.body["receipt"]))
            await self._perhaps_again(renaming)

    async def _rename_and_leave(self) -> None:
        await self.door.send(self._renaming())

    async def _post_stale(self) -> None:
        """What nobody may accept: its parent is no node of the conversation."""
        nowhere = "00000000-0000-4000-8000-000000000000"
        stale = self._post(self._conversation, nowhere, 1)
        await self.door.send(replace(stale, what="stale"))

    async def _ask(self) -> None:
        asking = self._post(self._conversation, self._parent, CANCELLED_TOKENS)
        accepted = await self.door.insist(asking)
        if accepted.kind is Kind.OK:
            self._answering = str(accepted.body["answer"])
            self._following = asyncio.create_task(self.door.follow(self._answering))
            await self._perhaps_again(asking)

    async def _cancel(self) -> None:
        path = f"/api/answers/{self._answering}/cancel"
        facts = {"answer": self._answering, "conversation": self._conversation}
        await self.door.insist(Command("cancel", "POST", path, {}, self._key("cancel"), facts))
