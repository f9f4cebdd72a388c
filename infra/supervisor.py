"""Everything on one machine: embedded servers and roles, started, watched, restarted and stopped.

What the settings replace by the user's own is not started. Servers and roles start side by side: a
role imports its code while the servers come up and works once it is told to. If this process is
killed, no child outlives it (see `servers.warden` and `servers.lifeline`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Protocol

from infra.children import Backoff, Child, Fork, Surroundings, role_command
from infra.forks import ForkServer, can_fork
from infra.home import Part, write_state
from infra.lives import Life
from infra.metrics_ports import metrics_listeners
from infra.servers import EmbeddedServers
from infra.servers.orphans import adopt_orphans, bury_orphans
from infra.settings import PREFIX, Settings

ROLES = ("relay", "recorder", "projections", "sagas", "gateway", "answers-1", "answers-2")
STOP_ORDER = (
    ("gateway",),
    ("answers-1", "answers-2"),
    ("relay", "recorder", "projections", "sagas"),
)
WATCH_SECONDS = 0.2  # between two looks at the servers' processes
ASK_SECONDS = 0.1  # between two questions whether answers can be given
PREPARE = "prepare"
ROLES_MODULE = "infra.cli.run"  # how a role is started, and what the fork server imports
CONNECTIONS_WAITING_MAX = 2_048  # as many as a gateway lets wait


class Display(Protocol):
    """Where a person sees what happens."""

    def state(self, name: str, state: str) -> None:
        """A part is starting, ready, downloading..."""

    def say(self, text: str) -> None:
        """One sentence."""


def listening(host: str, port: int) -> socket.socket:
    """Every life of the gateway takes connections here; while none runs, they wait."""
    return socket.create_server(
        (host, port), family=_family(host, port), backlog=CONNECTIONS_WAITING_MAX
    )


def _family(host: str, port: int) -> socket.AddressFamily:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]


class NotPrepared(Exception):
    """Schemas, topics or the first key could not be made."""

    def __init__(self, words: str) -> None:
        super().__init__(f"The databases and topics could not be prepared: {words}")


class Supervisor:
    """One installation. `start` returns when answers can be given, `stop` when nothing runs."""

    def __init__(
        self,
        settings: Settings,
        display: Display,
        *,
        roles: Sequence[str] = ROLES,
        prepare: str | None = PREPARE,
        module: str = ROLES_MODULE,
        answers_ready: Callable[[Settings], bool] | None = None,
    ) -> None:
        self._display = display
        self._servers = EmbeddedServers.of(settings)
        self._servers.settle()
        self._answers_ready = answers_ready
        local = not settings.engines
        self.settings = settings = self._servers.fill_in(settings)
        self._server_parts = {
            name: Part(name, ports=server.ports()) for name, server in self._servers.servers.items()
        }
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(PREFIX)
        } | settings.environment()
        self._around = Surroundings(
            environment,
            settings.home / "logs",
            log_bytes_max=settings.log_bytes_max,
            restart_delay_seconds_max=settings.restart_delay_seconds_max,
            say=display.say,
            changed=self._tell_state,
        )
        self._metrics = metrics_listeners(settings, roles, display.say)
        self._module = module
        forks = can_fork(environment) and adopt_orphans(True)
        self._fork_server = ForkServer(module, self._around) if forks else None
        self._prepare = self._child(prepare, {}) if prepare else None
        engine_ports = {"http": settings.engine_port}
        self._engine = self._child("engine", engine_ports, forked=False) if local else None
        self._listener = listening(settings.host, settings.port) if "gateway" in roles else None
        self._roles = {name: self._child(name, self._ports_of(name)) for name in roles}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    def _ports_of(self, name: str) -> dict[str, int]:
        ports = {"http": self.settings.port} if name == "gateway" else {}
        if name in self._metrics:
            ports["metrics"] = self._metrics[name].getsockname()[1]
        return ports

    def _child(self, name: str, ports: dict[str, int], *, forked: bool = True) -> Child:
        role, listeners = name.partition("-")[0], {}
        if role == "gateway" and self._listener is not None:
            listeners["--listener"] = self._listener
        if name in self._metrics:
            listeners["--metrics"] = self._metrics[name]
        return Child(
            name,
            role_command(role, self._module),
            self._around,
            role=role,
            ports=ports,
            listeners=listeners,
            fork=self._fork_of(role) if forked else None,
        )

    def _fork_of(self, role: str) -> Fork | None:
        server = self._fork_server
        if server is None:
            return None

        async def fork(passed: Mapping[str, int]) -> Life | None:
            return await server.fork(role, passed)

        return fork

    @property
    def parts(self) -> list[Part]:
        """Everything that runs, as `ps` shows it."""
        return [*self._server_parts.values(), *(child.part for child in self._children)]

    @property
    def _children(self) -> list[Child]:
        apart = (self._fork_server, self._engine)
        return [*(child for child in apart if child is not None), *self._roles.values()]

    def _write_state(self) -> None:
        if not hasattr(self, "_roles"):
            return
        address = f"http://{self.settings.local_host}:{self.settings.port}"
        write_state(self.settings.home, self.parts, address=address)

    def _tell_state(self) -> None:
        """`ps` shows old news if the disk is full; that must not end the watch over a part."""
        try:
            self._write_state()
        except OSError as problem:
            self._display.say(f"state.json can't be written, so `ps` shows old news: {problem}")

    def _watch(self, name: str, work: Coroutine[object, object, None]) -> None:
        """Runs `work` until `stop`; its end is told, for nobody awaits it."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (problem := task.exception()) is not None:
                words = f"{type(problem).__name__}: {problem}"
                self._display.say(
                    f"{name} is not watched any more ({words}); stop everything and start it again"
                )

        task = asyncio.create_task(work, name=f"watches {name}")
        task.add_done_callback(ended)
        self._tasks.append(task)

    # start --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Returns when answers can be given; an exception says why not. Call `stop` after it."""
        self._write_state()
        children = self._children
        if self._fork_server is not None:
            self._watch("orphans", bury_orphans())
        prepared = asyncio.create_task(self._prepare.run_once()) if self._prepare else None
        try:
            for child in children:
                self._watch(child.name, child.keep())
                self._display.state(child.name, "starting")
            if self._engine is not None:
                self._engine.go()
            await asyncio.gather(*(self._start_server(name) for name in self._server_parts))
            for name in self._server_parts:
                self._watch(name, self._watch_server(name))
            if prepared is not None and self._prepare is not None:
                self._display.state(PREPARE, "starting")
                self._prepare.go()
                if await prepared:
                    raise NotPrepared(self._prepare.last_words)
                self._display.state(PREPARE, "ready")
        finally:
            if prepared is not None and not prepared.done() and self._prepare is not None:
                self._prepare.kill()
                await prepared
        for child in children:
            child.go()
        await self._wait_for_answers()
        for child in children:
            self._display.state(child.name, "ready")

    async def _start_server(self, name: str) -> None:
        loop = asyncio.get_running_loop()

        def progress(name: str, state: str) -> None:
            loop.call_soon_threadsafe(self._display.state, name, state)

        await asyncio.to_thread(self._servers.start, name, progress=progress)
        part = self._server_parts[name]
        server = self._servers.servers[name]
        part.pid, part.ports, part.state = server.pid, server.ports(), "running"
        self._write_state()

    async def _watch_server(self, name: str) -> None:
        server, part = self._servers.servers[name], self._server_parts[name]
        backoff = Backoff(self.settings.restart_delay_seconds_max)
        began = time.monotonic()
        while not self._stopping:
            await asyncio.sleep(WATCH_SECONDS)
            if server.running or self._stopping:
                continue
            part.pid, part.state = None, "restarting"
            self._tell_state()
            delay = backoff.after(time.monotonic() - began)
            when = f"in {delay:g} s" if delay else "now"
            self._display.say(f"{name} ended; it is started again {when}")
            await asyncio.sleep(delay)
            began = time.monotonic()
            try:
                await self._start_server(name)
            except Exception as problem:  # whatever it is, the next try may do better
                self._display.say(f"{name}: {problem}")

    async def _wait_for_answers(self) -> None:
        if self._answers_ready is None:
            return
        told_at = time.monotonic() + self.settings.start_seconds_max
        while not await asyncio.to_thread(self._answers_ready, self.settings):
            if time.monotonic() > told_at:
                told_at += self.settings.start_seconds_max
                self._display.say(
                    f"No answer after {self.settings.start_seconds_max:g} s; `thalweg doctor` and "
                    f"the logs in {self.settings.home / 'logs'} say why. Still trying."
                )
            await asyncio.sleep(ASK_SECONDS)

    # stop ---------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Doors first, servers last, each within its bound."""
        self._stopping = True
        if self._listener is not None:
            self._listener.close()
        bound = self.settings.drain_seconds_max + self.settings.stop_seconds_max
        for names in STOP_ORDER:
            members = [self._roles[name] for name in names if name in self._roles]
            await asyncio.gather(*(child.stop(bound) for child in members))
        await asyncio.gather(*(child.stop(bound) for child in self._children))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._servers.stop)
        for part in self._server_parts.values():
            part.pid, part.state = None, "stopped"
        self._write_state()
        for child in [*self._children, *([self._prepare] if self._prepare else [])]:
            child.close()
        for listener in self._metrics.values():
            listener.close()
        if self._fork_server is not None:
            adopt_orphans(False)

    def kill(self) -> None:
        """For the impatient: no child is waited for in good order."""
        for child in self._children:
            child.kill()
        for server in self._servers.servers.values():
            with contextlib.suppress(OSError):
                server.kill()
