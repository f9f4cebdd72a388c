"""Whether this installation can accept commands, and whether it can give answers, right now."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code

from gateway.ports import HealthReport

log = logging.getLogger("thalweg.health")

CHECK_SECONDS_MAX = 2.0
"""A dependency that has not answered by then is not ready."""
FRESH_SECONDS = 0.5
"""Probes that come quicker share one look: a probe must not become a load."""
READY = "ready"
STABLE = "Stable"  # what Kafka calls a group whose members all have their partitions
UNREACHABLE = "unreachable"

Check = Callable[[], Awaitable[str]]
"""Gives "ready", or what is wrong."""


class Health:
    """Asks every dependency at once; each has its own bound, and none can make the others late."""

    def __init__(
        self,
        checks: Mapping[str, Check],
        *,
        commands_need: Sequence[str],
        told_only: Sequence[str] = (),
    ) -> None:
        """Commands need those named, answers need all but the `told_only` ones."""
        self._checks = dict(checks)
        self._commands_need = tuple(commands_need)
        self._answers_need = [name for name in checks if name not in told_only]
        self._lock = asyncio.Lock()
        self._report: HealthReport | None = None
        self._at = 0.0
        self._reasons: dict[str, str] = {}
        """What the log was told last of each dependency that fails."""

    async def check(self) -> HealthReport:
        """The state of every dependency, at most FRESH_SECONDS old. Never raises."""
        async with self._lock:
            if self._report is None or time.monotonic() - self._at > FRESH_SECONDS:
                names = list(self._checks)
                states = await asyncio.gather(*(self._state(name) for name in names))
                found = dict(zip(names, states, strict=True))
                self._report = HealthReport(
                    commands_ready=all(found[name] == READY for name in self._commands_need),
                    answers_ready=all(found[name] == READY for name in self._answers_need),
                    dependencies=found,
                )
                self._at = time.monotonic()
            return self._report

    async def _state(self, name: str) -> str:
        try:
            async with asyncio.timeout(CHECK_SECONDS_MAX):
                return await self._checks[name]()
        except TimeoutError:
            return f"no answer in {CHECK_SECONDS_MAX} s"
        except Exception as error:  # its words are for the log alone: anybody may ask us
            if self._reasons.get(name) != (reason := f"{type(error).__name__}: {error}"):
                self._reasons[name] = reason
                extra = {"dependency": name, "reason": reason}
                log.warning("a dependency is not ready", extra=extra)
            return UNREACHABLE


class GroupHealth:
    """Whether consumer groups have members and work, as Kafka itself sees them.

    By aiokafka: librdkafka ends the whole process where the broker that it asked about a group goes
    away (its issue 4605). A client that has failed is replaced.
    """

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._client: AIOKafkaAdminClient | None = None
        self._lock = asyncio.Lock()

    def check(self, group: str) -> Check:
        """A check that the group is stable with at least one member."""

        async def ask() -> str:
            async with self._lock:
                try:
                    return await self._ask(group)
                except BaseException:
                    await self.close()
                    raise

        return ask

    async def _ask(self, group: str) -> str:
        if self._client is None:
            self._client = AIOKafkaAdminClient(
                bootstrap_servers=self._bootstrap,
                client_id="thalweg-health",
                request_timeout_ms=int(CHECK_SECONDS_MAX * 1_000),
            )
            await self._client.start()
        (answer,) = await self._client.describe_consumer_groups([group])
        error, _, state, _, _, members, *_ = answer.groups[0]
        if error:
            raise for_code(error)(f"about the group {group}")
        if state != STABLE:
            return f"the group is {state.lower()}"
        return READY if members else "nobody is in the group"

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()
