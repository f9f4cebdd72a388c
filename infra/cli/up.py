"""`thalweg up`: everything on this machine, with its progress, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import signal
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from infra.home import HomeTaken, hold
from infra.servers import ServerDidNotStart
from infra.servers.ports import is_free
from infra.servers.process import wait_until
from infra.settings import Settings
from infra.supervisor import Display, NotPrepared, Supervisor

FAILED = 1
ASK_SECONDS_MAX = 2.0
PORT_FREE_SECONDS_MAX = 3.0  # a gateway of a killed run lets go of its port in milliseconds
REFRESHES_PER_SECOND = 8
QUESTION = "What is a thalweg?"


class PlainDisplay:
    """One line a change, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._shown: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    def state(self, name: str, state: str) -> None:
        # of a download's many steps a log needs the first
        if state.partition(" ")[0] != self._shown.get(name, "").partition(" ")[0]:
            self.say(f"{time.monotonic() - self._began:5.1f} s  {name}: {state}")
        self._shown[name] = state

    def say(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone; the work goes on
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveDisplay(PlainDisplay):
    """A table that changes in place, for a person at a terminal."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._since: dict[str, float] = {}
        self._live = Live(
            console=console,
            get_renderable=self._table,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def state(self, name: str, state: str) -> None:
        self._shown[name] = state
        self._since[name] = time.monotonic()

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, state in self._shown.items():
            ready = state == "ready"
            until = self._since[name] if ready else time.monotonic()
            mark = "[green]●[/]" if ready else "[yellow]○[/]"
            table.add_row(mark, name, state, f"[dim]{until - self._began:.1f} s[/]")
        return table


def up(settings: Settings) -> int:
    """Returns the exit status, once nothing runs any more."""
    console = Console()
    try:
        with hold(settings.home):
            return asyncio.run(_up(settings, console))
    except HomeTaken as taken:
        console.print(str(taken), markup=False, soft_wrap=True)
        return FAILED


async def _up(settings: Settings, console: Console) -> int:
    try:
        wait_until(lambda: is_free(settings.port), PORT_FREE_SECONDS_MAX)
    except TimeoutError:
        console.print(
            f"THALWEG_PORT is {settings.port}: something else listens there; set another one.",
            soft_wrap=True,
        )
        return FAILED
    plain = PlainDisplay(console)
    starting = LiveDisplay(console) if console.is_terminal else plain
    display = _Switch(starting)
    try:
        supervisor = Supervisor(settings, display, answers_ready=answers_ready)
    except OSError as problem:
        console.print(f"THALWEG_HOST and THALWEG_PORT: {problem}", markup=False, soft_wrap=True)
        return FAILED
    told = asyncio.Event()
    times = 0

    def stop() -> None:
        nonlocal times
        times += 1
        told.set()
        if times > 1:
            supervisor.kill()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            loop.add_signal_handler(number, stop)
    status = 0
    start = asyncio.create_task(supervisor.start())
    end = asyncio.create_task(told.wait())
    try:
        with starting:
            await asyncio.wait((start, end), return_when=asyncio.FIRST_COMPLETED)
        display.target = plain
        if start.done():
            try:
                start.result()
                _welcome(supervisor.settings, console)
                await end
            except (ServerDidNotStart, NotPrepared, LookupError, OSError) as problem:
                console.print(str(problem), markup=False, soft_wrap=True)
                status = FAILED
        plain.say("Stopping ...")
    finally:
        for task in (start, end):
            task.cancel()
        await asyncio.gather(start, end, return_exceptions=True)
        await supervisor.stop()
    plain.say("Stopped.")
    return status


class _Switch:
    """A display that can be exchanged for another."""

    def __init__(self, target: Display) -> None:
        self.target = target

    def state(self, name: str, state: str) -> None:
        self.target.state(name, state)

    def say(self, text: str) -> None:
        self.target.say(text)


def answers_ready(settings: Settings) -> bool:
    """Whether the gateway could answer the owner of the first key now."""
    try:
        key = (settings.home / "api-key").read_text().strip()
        ready = _get(settings, "/readyz", {})
        return ready.get("answers") == "ready" and "data" in _get(
            settings, "/v1/models", {"Authorization": f"Bearer {key}"}
        )
    except (OSError, ValueError, http.client.HTTPException):
        return False


def _get(settings: Settings, path: str, headers: dict[str, str]) -> dict[str, object]:
    connection = http.client.HTTPConnection(
        settings.local_host, settings.port, timeout=ASK_SECONDS_MAX
    )
    try:
        connection.request("GET", path, headers=headers)
        body = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return body if isinstance(body, dict) else {}


def _first_model(settings: Settings, key: str) -> str:
    """For an example: a gateway that does not answer just now is no reason to stop everything."""
    try:
        models = _get(settings, "/v1/models", {"Authorization": f"Bearer {key}"})["data"]
        return str(models[0]["id"])  # type: ignore[index]  # whatever it is, it came as JSON
    except (OSError, ValueError, LookupError, TypeError, http.client.HTTPException):
        return "default"


def _welcome(settings: Settings, console: Console) -> None:
    address = f"http://{settings.local_host}:{settings.port}"
    key = (settings.home / "api-key").read_text().strip()
    model = _first_model(settings, key)
    messages = [{"role": "user", "content": QUESTION}]
    body = json.dumps({"model": model, "messages": messages, "stream": True})
    metrics = ""
    if settings.metrics_port is not None:
        first = f"http://{settings.metrics_host}:{settings.metrics_port}/metrics"
        metrics = f"Metrics for Prometheus: {first}, a port a role (`thalweg ps`)\n\n"
    console.print(
        f"Thalweg is ready: {address}\n"
        f"API key: {key}   (kept in {settings.home / 'api-key'})\n\n"
        f"  curl -N {address}/v1/chat/completions -H 'Authorization: Bearer {key}' \\\n"
        f"    -H 'Content-Type: application/json' -d '{body}'\n\n"
        f"{metrics}Ctrl-C stops everything; the data stays.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
