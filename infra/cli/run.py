"""`thalweg run ROLE...`: roles in this process until it is told to stop. `up` uses it too."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib
import inspect
import logging
import os
import signal
import socket
import sys
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from infra import failpoints
from infra.alive import keep_touching
from infra.servers import lifeline
from infra.settings import PREFIX, Settings, SettingsRefused

if TYPE_CHECKING:
    from infra.metrics.shown import Shown

ROLES = ("gateway", "relay", "answers", "recorder", "projections", "sagas", "engine")
PREPARE = "prepare"  # not a role: makes schemas, topics and the first key, then ends
NEED_TOPICS = frozenset(ROLES) - {"engine"}
# Faust imports these by itself when an app begins, one after the other in the event loop.
FAUST_LATE = (
    "faust.fixups.base",
    "faust.tables",
    "faust.tables.objects",
    "faust.tables.sets",
    "faust.topics",
    "faust.assignor.partition_assignor",
    "mode.worker",
)
# What a role is made of (wiring.py imports it when the role begins): imported ahead, while the
# servers come up, it is there when they are.
AHEAD = {
    "gateway": ("gateway.app", "gateway.server", "infra.wiring_gateway"),
    "relay": ("infra.relay", "infra.kafka.producer"),
    "answers": ("infra.answers_worker", *FAUST_LATE),
    "recorder": ("infra.recorder", "infra.key_sweeper"),
    "projections": ("infra.projections",),
    "sagas": ("infra.sagas.role",),
    "engine": ("infra.local_engine.main",),
    PREPARE: ("infra.kafka.topics", "infra.event_store", "infra.sagas.role"),
}
METRICS = (
    "infra.metrics.shown",
    "infra.metrics.answers",
    "infra.metrics.gateway",
    "infra.metrics.log_roles",
)
BY_THEMSELVES = frozenset({"engine"})  # what it imports begins threads: it can't be forked
ALONE_ON_A_PORT = frozenset({"engine"})  # its next life can only begin after its end
HANDOVER_SECONDS_MAX = 15.0  # a next life that does not work by then is not waited for
REFUSED = 2  # exit status for settings or arguments that are wrong
FAILED = 1

log = logging.getLogger(__name__)


def run(
    roles: Sequence[str],
    *,
    lifeline_fd: int | None = None,
    listener_fd: int | None = None,
    metrics_fd: int | None = None,
) -> int:
    """Returns the exit status. With a lifeline, work begins when the supervisor says so."""
    unknown = [role for role in roles if role not in (*ROLES, PREPARE)]
    if unknown or not roles:
        known = ", ".join(ROLES)
        print(f"There is no role {', '.join(unknown)!r}; there are {known}.", file=sys.stderr)
        return REFUSED
    line = None if lifeline_fd is None else lifeline.watch(lifeline_fd)
    try:
        settings = Settings.load()
    except SettingsRefused as refused:
        print(refused, file=sys.stderr)
        return REFUSED
    from infra.telemetry import configure_logging

    supervised = line is not None
    configure_logging(
        "+".join(roles),
        level=settings.log_level,
        form="json" if supervised else settings.log_format,
    )
    _hear_of_failpoints(settings, roles)
    traced = settings.otlp_endpoint is not None and PREPARE not in roles
    modules = ["infra.wiring", "uvloop", *(module for role in roles for module in AHEAD[role])]
    if traced:
        modules.append("infra.traces")
    measured = settings.metrics_port is not None and PREPARE not in roles
    if measured:
        modules.append("infra.metrics.shown")
    import_all(modules)
    from infra import wiring

    gc.collect()
    gc.freeze()  # what was imported stays: the collector need not walk it each time
    if line is not None:
        line.wait()
    _follow_failpoints(settings, roles)
    if line is None:
        from infra.servers import resolve

        settings = resolve(settings)
    if PREPARE in roles:
        try:
            for sentence in prepare(settings):
                log.info("%s", sentence)
        except Exception as problem:
            log.exception("nothing could be prepared")
            print(_sentence(problem), file=sys.stderr)  # the last words: what a person is shown
            return FAILED
        return 0
    if not supervised and NEED_TOPICS & set(roles):
        try:
            finish(wiring.check_topics(settings))
        except Exception as problem:
            print(_sentence(problem), file=sys.stderr)
            return FAILED
    hands_over = ALONE_ON_A_PORT.isdisjoint(roles)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        succession = wiring.Succession(
            listener=None if listener_fd is None else socket.socket(fileno=listener_fd),
            works=line.works if line is not None else lambda: None,
        )
        work: list[Coroutine[Any, Any, None]] = []
        if measured and (metrics := _shown(settings, metrics_fd, supervised)) is not None:
            succession = replace(succession, metrics=metrics.registry)
            work.append(metrics.serve())
        work += [wiring.run_role(role, settings, succession) for role in roles]
        if settings.alive_file is not None:
            work.append(keep_touching(settings.alive_file))
        with exported_traces(settings, roles) if traced else contextlib.nullcontext():
            return runner.run(_until_told(work, line if hands_over else None))


def _shown(settings: Settings, inherited: int | None, supervised: bool) -> Shown | None:
    from infra.metrics.shown import shown

    return shown(settings, inherited=inherited, supervised=supervised)


def import_all(modules: Sequence[str]) -> None:
    for module in modules:
        importlib.import_module(module)


def import_roles() -> None:
    """What the fork server has ready for every role. What begins threads is not in it: they would
    be missing in its forks (the engine's numpy; exporters, as a role imports them itself)."""
    roles = (*(role for role in ROLES if role not in BY_THEMSELVES), PREPARE)
    ours = ("infra.telemetry", "infra.wiring", "uvloop")
    import_all([*ours, *(module for role in roles for module in AHEAD[role])])
    if os.environ.get(f"{PREFIX}METRICS_PORT"):  # a tenth of a second of a takeover
        import_all(METRICS)


@contextlib.contextmanager
def exported_traces(settings: Settings, roles: Sequence[str]) -> Iterator[None]:
    """Spans go to the collector that the settings name; the last ones in the end."""
    from infra.traces import Traces

    if settings.otlp_endpoint is None:
        raise LookupError("THALWEG_OTLP_ENDPOINT is not set")
    traces = Traces(settings.otlp_endpoint, role="+".join(roles), ratio=settings.trace_ratio)
    try:
        yield
    finally:
        traces.close()


def prepare(settings: Settings) -> list[str]:
    """Makes what roles rely on: schemas, topics, and the first API key in `home/api-key`.

    Idempotent. Returns a sentence for each, without the key.
    """
    from infra import wiring
    from infra.servers.ports import write_private

    made = finish(wiring.prepare(settings))
    done = ["The schemas of the event stores are there."]
    done.append(f"Made the topics {', '.join(made)}." if made else "The topics are there.")
    failpoints.hit("prepare.after_topics")
    path = settings.home / "api-key"
    if path.exists():
        return [*done, f"There is an API key in {path}."]
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = finish(wiring.first_key(settings))
    failpoints.hit("prepare.after_key")
    write_private(path, f"{key}\n")
    return [*done, f"Made an API key; it is in {path}, which only you may read."]


def prepare_and_tell() -> int:
    """`thalweg prepare`: the exit status, after a line for what was done or went wrong."""
    from infra.servers import resolve

    try:
        settings = Settings.load()
        _hear_of_failpoints(settings, [PREPARE])
        _follow_failpoints(settings, [PREPARE])
        done = prepare(resolve(settings))
    except SettingsRefused as refused:
        print(refused, file=sys.stderr)
        return REFUSED
    except Exception as problem:
        print(_sentence(problem), file=sys.stderr)
        return FAILED
    print("\n".join(done))
    return 0


def _sentence(problem: BaseException) -> str:
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return f"{type(problem).__name__}: {problem}".replace("\n", " ")


def finish(result: Any) -> Any:
    """The wiring's functions may be coroutines or not."""
    return asyncio.run(result) if inspect.iscoroutine(result) else result


def _hear_of_failpoints(settings: Settings, roles: Sequence[str]) -> None:
    """Where tests may arm failpoints, SIGUSR2 says that there is a plan; elsewhere it ends us."""

    def take(*_: object) -> None:
        failpoints.take_from_file(settings.home, roles)

    if settings.failpoints == failpoints.FROM_FILE:
        signal.signal(signal.SIGUSR2, take)


def _follow_failpoints(settings: Settings, roles: Sequence[str]) -> None:
    """Not before the work: a plan is meant for a process that works, not for one that waits."""
    if settings.failpoints:
        log.warning("failpoints are on: this process kills itself when a test says so")
        failpoints.begin(settings.failpoints, settings.home, roles)


async def _until_told(
    roles: Sequence[Coroutine[Any, Any, object]], line: lifeline.Lifeline | None = None
) -> int:
    """Runs the roles side by side; SIGTERM and SIGINT cancel them, and so does the end of one.

    With a lifeline they work on until the next life does, or for `HANDOVER_SECONDS_MAX`.
    """
    tasks = [asyncio.ensure_future(role) for role in roles]
    loop = asyncio.get_running_loop()
    stopped = False

    def stop() -> None:
        nonlocal stopped
        if not stopped:  # a second cancellation would cut short what finishes in good order
            stopped = True
            for task in tasks:
                task.cancel()

    def leave() -> None:
        if line is None:
            stop()
            return

        def released() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(stop)

        line.leave(released)
        loop.call_later(HANDOVER_SECONDS_MAX, stop)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave)
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    stop()
    status = 0
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            log.error("%s", _sentence(result), exc_info=result)
            status = FAILED
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """For the supervisor: `python -m infra.cli.run ROLE --lifeline FD`, or what it forks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", nargs="+")
    parser.add_argument("--lifeline", type=int)
    parser.add_argument("--listener", type=int)
    parser.add_argument("--metrics", type=int)
    given = parser.parse_args(arguments)
    return run(
        given.role,
        lifeline_fd=given.lifeline,
        listener_fd=given.listener,
        metrics_fd=given.metrics,
    )


if __name__ == "__main__":
    sys.exit(main())
