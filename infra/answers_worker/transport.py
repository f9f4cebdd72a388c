"""Faust's aiokafka transport, with our own rules on offsets, assignment, failures and threads.

- Offsets: never past the oldest message whose answer has not ended (`Watermarks`); a commit that
  Kafka refuses is tried again later and does not end the process.
- Assignment: by range, so that a partition number has one worker on every work topic. (Faust takes
  round robin, which deals the same number of different topics to different workers.)
- Threads: Faust runs its consumer in a thread with a loop of its own, which costs each message two
  hand-overs. Ours runs in the app's loop. Heartbeats then share it: a loop that stands still
  for the session timeout is taken for dead, and rightly.
- Producer: none. Faust's is idempotent only inside transactions.
- Refusals: aiokafka's coordinator stands still after an error until somebody asks for it. Faust
  does not; ours does, and the app crashes with `GroupRefused`.
- Buffers: none of Faust's pressure (`on_buffer_full`).
- Stalls: after a rebalance Faust seeks, and if Kafka takes longer for that than a request may, it
  takes the timeout for its own stop and never lets a message flow again. The app crashes with
  `FlowStalled` instead.
- Strangers' records that aiokafka can't decode are passed over (`records`).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import aiokafka
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service
from mode.utils.futures import maybe_async

from infra.answers_worker import records
from infra.answers_worker.eager import begin
from infra.answers_worker.watermarks import Watermarks
from infra.failpoints import hit

log = logging.getLogger("thalweg.answers")

FETCH_WAIT_MILLISECONDS_MAX = 200  # a partition that is gained waits for the fetch under way
GROUP_CHECK_SECONDS = 0.5  # a refused member notices it after this long at most
RESUME_SECONDS_MAX = 10.0  # from an assignment to the first fetch: two requests to Kafka
STILL_CHECKS_MAX = 20  # of the group, in a row, between which no partition was asked for messages
COMMIT_SECONDS_MAX = 5.0  # a commit that hangs must not hold up a rebalance or the end


class GroupRefused(Exception):
    """Kafka did not let this member into its group, or has thrown it out with an error."""


class FlowStalled(Exception):
    """Partitions were assigned, and no message is fetched from them."""


class LoopConsumer(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # mypy skips faust
    """The part of a Faust consumer that speaks with Kafka: a "thread" in the app's own loop."""

    wait_for_shutdown = False

    def __init__(self, consumer: "Consumer", **options: Any) -> None:
        loop = options.pop("loop")
        super().__init__(consumer, loop=loop, thread_loop=loop, **options)
        self._settled = False  # between the end of a rebalance and the beginning of the next
        self._assigned_at = 0.0
        self._still = 0  # checks in a row in which messages did not flow
        self._rounds = 0  # of the fetching, when it was last looked at

    async def start(self) -> None:
        self._thread_started.set()
        await self._default_start()
        self.add_future(self._watch_the_group())

    async def stop(self) -> None:
        if self._started.is_set():
            await Service.stop(self)

    async def on_stop(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()

    def _stopped_set(self) -> None:
        self._stopped.set()

    def set_shutdown(self) -> None:
        self._shutdown.set()

    async def _stop_children(self) -> None:
        await self._default_stop_children()

    async def _stop_futures(self) -> None:
        await self._default_stop_futures()

    async def _stop_exit_stacks(self) -> None:
        await self._default_stop_exit_stacks()

    async def call_thread(
        self, function: Callable[..., Awaitable[Any]], *arguments: Any, **named: Any
    ) -> Any:
        return await maybe_async(function(*arguments, **named))

    async def cast_thread(
        self, function: Callable[..., Awaitable[Any]], *arguments: Any, **named: Any
    ) -> None:
        await maybe_async(function(*arguments, **named))

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self._settled = False
        await self.consumer.on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._settled, self._assigned_at = True, time.monotonic()
        # Before Faust lets messages flow: one of a partition that nobody knows of is dropped.
        self.app.were_assigned(generation_id, assigned)
        await self.consumer.on_partitions_assigned(assigned, generation_id)

    async def _watch_the_group(self) -> None:
        while not self.should_stop:
            await self.sleep(GROUP_CHECK_SECONDS)
            coordinator = self._coordinator
            if coordinator is None:
                continue
            try:
                coordinator.check_errors()
            except KafkaError as error:
                refused = GroupRefused(f"Kafka refuses this worker as a member: {error!r}")
                refused.__cause__ = error
                await self.crash(refused)
                return
            late = time.monotonic() - self._assigned_at > RESUME_SECONDS_MAX
            if self._settled and self.app.rebalancing and late:
                await self.crash(FlowStalled("messages do not flow after a rebalance"))
                return
            self._still = 0 if self._flows() else self._still + 1
            if self._still > STILL_CHECKS_MAX:
                await self.crash(FlowStalled("messages do not flow any more"))
                return

    def _flows(self) -> bool:
        """Since the last look every partition was asked for messages that is not held back, or a
        rebalance is under way. It is counted in looks: a process that slept has not looked."""
        before, self._rounds = self._rounds, self.consumer.rounds
        if not self._settled:
            return True
        return self._rounds > before and not self.consumer.left_out()

    @property
    def _coordinator(self) -> Any:
        """None before the start. (Private in aiokafka.)"""
        return getattr(self._consumer, "_coordinator", None)

    @property
    def is_member(self) -> bool:
        """The group counts this member in, as far as is known: its coordinator is there too."""
        coordinator = self._coordinator
        return (
            self._settled
            and coordinator is not None
            and coordinator.generation >= 0
            and coordinator.coordinator_id is not None
        )

    @property
    def generation(self) -> int:
        """The group's; -1 when this member has been thrown out. (Private in aiokafka.)"""
        return int(self._ensure_consumer()._coordinator.generation)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        owned = self.assignment()
        wanted = {
            TopicPartition(each.topic, each.partition): OffsetAndMetadata(at, "")
            for each, at in offsets.items()
            if each in owned
        }
        if not wanted:
            return False
        hit("answers.before_commit")
        try:
            async with asyncio.timeout(COMMIT_SECONDS_MAX):
                await self._ensure_consumer().commit(wanted)
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            log.warning("offsets were not committed", extra={"error": repr(error)})
            return False
        hit("answers.after_commit")
        return True

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's own alarms know nothing of answers that take their time."""

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        conf = self.app.conf
        self._assignor = RangePartitionAssignor
        records.use()
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            bootstrap_servers=driver.server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[RangePartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset=conf.consumer_auto_offset_reset,
            max_poll_records=conf.broker_max_poll_records,
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1_000),
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_max_wait_ms=FETCH_WAIT_MILLISECONDS_MAX,
            request_timeout_ms=int(conf.broker_request_timeout * 1_000),
            retry_backoff_ms=50,
            session_timeout_ms=int(conf.broker_session_timeout * 1_000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1_000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1_000),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            isolation_level="read_uncommitted",
        )


class Consumer(driver.Consumer):  # type: ignore[misc]  # mypy skips faust
    """Commits what the watermarks of its app allow."""

    def _new_consumer_thread(self) -> LoopConsumer:
        return LoopConsumer(self, loop=self.loop, beacon=self.beacon)

    @property
    def watermarks(self) -> Watermarks:
        marks: Watermarks = self.app.watermarks
        return marks

    @property
    def generation(self) -> int:
        return int(self._thread.generation)

    @property
    def is_member(self) -> bool:
        """Nobody else owns this consumer's partitions, as far as it is known."""
        return bool(self._thread.is_member)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (TP(*each) for each in self.watermarks.partitions())

    def _new_offset(self, tp: TP) -> int | None:
        return self.watermarks.watermark((tp.topic, tp.partition))

    async def _commit_offsets(
        self, offsets: Mapping[TP, int], start_new_transaction: bool = True
    ) -> bool:
        done = bool(await self._commit(offsets))
        if done:
            self._committed_offset.update(offsets)
        return done

    async def wait_first(self, *awaited: Any, timeout: float | None = None) -> Any:
        """Faust hands each message over beside three other waits, in four tasks; but the agent's
        buffer has room as a rule, and then there is nothing to wait for.
        """
        if timeout is not None or not all(map(asyncio.iscoroutine, awaited)):
            return await super().wait_first(*awaited, timeout=timeout)
        first, *others = awaited
        rest = begin(first)
        if rest is not None:
            return await super().wait_first(rest, *others)
        for other in others:
            other.close()
        return None

    rounds = 0
    """How often messages were asked for."""

    async def _wait_next_records(self, timeout: float) -> Any:
        found = await super()._wait_next_records(timeout)
        self.rounds += 1
        return found

    def left_out(self) -> set[TP]:
        """Partitions of this worker that are neither asked for messages nor held back. (After two
        rebalances in a row Faust has left a worker with partitions that it never fetched from.)"""
        asked: set[TP] = self._get_active_partitions() | self._buffered_partitions
        return {each for each in self.assignment() if each not in asked}

    def on_buffer_full(self, tp: TP) -> None:
        """Nothing: the agent never waits, and whoever hands over waits for room in its buffer.

        Faust would fetch the others alone, for up to a second, however soon there is room again:
        64 messages a second, of a partition that has thousands behind a commit.
        """

    def on_buffer_drop(self, tp: TP) -> None:
        """Nothing: what is held back stays held back."""

    def hold_back(self, topics: Iterable[str]) -> None:
        """Fetches nothing more of these topics; what was fetched still comes."""
        if not self._thread.is_member:
            return  # nothing comes; whoever rejoins is told again
        held = set(topics)
        for each in list(self._buffered_partitions):
            if each.topic not in held:
                self._buffered_partitions.discard(each)
                if each in self.assignment():
                    self._get_active_partitions().add(each)
        for each in list(self._get_active_partitions()) if held else ():
            if each.topic in held:
                self._get_active_partitions().discard(each)
                self._buffered_partitions.add(each)


class Transport(driver.Transport):  # type: ignore[misc]  # mypy skips faust
    """What the app uses instead of Faust's `kafka://`."""

    Consumer: ClassVar[type[Any]] = Consumer
