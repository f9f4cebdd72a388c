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
- Flow: none of Faust's. After a rebalance it stops, seeks, clears and resumes by flags of its own,
  in tasks that overtake each other when two rebalances follow closely: messages are passed over
  then, or never flow again. Ours leaves a partition's position to aiokafka alone, which begins an
  assignment at the commit, and hands over what comes, in order. A message counts only in the
  assignment in which it was fetched: the next one begins at the commit again.
- Stalls: if messages are not asked for any more, for whatever reason, the app crashes with
  `FlowStalled`.
- Strangers' records that aiokafka can't decode are passed over (`records`).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from itertools import chain
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
from infra.answers_worker.watermarks import Watermarks
from infra.failpoints import hit

log = logging.getLogger("thalweg.answers")

FETCH_WAIT_MILLISECONDS_MAX = 200  # a partition that is gained waits for the fetch under way
FETCH_SECONDS_MAX = 1.0  # that asking for messages waits for one
GROUP_CHECK_SECONDS = 0.5  # a refused member notices it after this long at most
STILL_CHECKS_MAX = 20  # of the group, in a row, between which no messages were asked for
COMMIT_SECONDS_MAX = 5.0  # a commit that hangs must not hold up a rebalance or the end


class GroupRefused(Exception):
    """Kafka did not let this member into its group, or has thrown it out with an error."""


class FlowStalled(Exception):
    """Partitions were assigned, and no messages are asked for."""


class Rebalances(aiokafka.abc.ConsumerRebalanceListener):  # type: ignore[misc]  # as below
    """What aiokafka tells of its group, passed on. (Faust's listener starts Faust's own flow.)"""

    def __init__(self, thread: "LoopConsumer") -> None:
        self._thread = thread

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._thread.on_partitions_revoked({TP(*each) for each in revoked})

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        tps = {TP(*each) for each in assigned}
        await self._thread.on_partitions_assigned(tps, self._thread.generation)


class LoopConsumer(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # mypy skips faust
    """The part of a Faust consumer that speaks with Kafka: a "thread" in the app's own loop."""

    wait_for_shutdown = False

    def __init__(self, consumer: "Consumer", **options: Any) -> None:
        loop = options.pop("loop")
        super().__init__(consumer, loop=loop, thread_loop=loop, **options)
        self._settled = False  # between the end of a rebalance and the beginning of the next
        self._still = 0  # checks in a row in which messages were not asked for
        self._rounds = 0  # of asking, when it was last looked at

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
        await self.consumer.commit()  # whoever gets them has the less to read again
        self._settled = False

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._settled = True
        # Until the first wait nothing of these partitions can come: whoever takes it is ready.
        self.app.were_assigned(generation_id, assigned)
        self.consumer.begin_assignment()
        await self.app.begin_flow(assigned)

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
            self._still = 0 if self._asks() else self._still + 1
            if self._still > STILL_CHECKS_MAX:
                await self.crash(FlowStalled("no messages are asked for any more"))
                return

    def _asks(self) -> bool:
        """Since the last look messages were asked for, or a rebalance is under way. It is counted
        in looks: a process that slept has not looked."""
        before, self._rounds = self._rounds, self.consumer.rounds
        return self._rounds > before or not self._settled

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

    async def fetched(self) -> dict[TopicPartition, list[Any]]:
        """The next records of the assignment that is valid when they are returned."""
        consumer = self._ensure_consumer()
        found: dict[TopicPartition, list[Any]]
        with consumer._subscription.fetch_context():
            # Not `getmany`: that takes the group's errors from the watch.
            found = await consumer._fetcher.fetched_records(
                (), FETCH_SECONDS_MAX, max_records=self.app.conf.broker_max_poll_records
            )
        return found

    def hold_back(self, topics: Collection[str]) -> None:
        """Fetches nothing of these topics in this assignment."""
        consumer = self._consumer
        for each in consumer.assignment() if consumer is not None else ():
            if each.topic in topics:
                consumer.pause(each)
            else:
                consumer.resume(each)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        if not self._settled:  # Kafka would refuse it, and the member would join once more
            return False
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
    """Hands over what comes, and commits what the watermarks of its app allow."""

    RebalanceListener = Rebalances

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

    rounds = 0
    """How often messages were asked for."""

    _held_back: frozenset[str] = frozenset()

    async def _drain_messages(self, fetcher: Any) -> None:
        """Hands over what comes, until the consumer or Faust's fetcher (which calls this) stops."""
        while not (self.should_stop or fetcher.should_stop):
            found = await self._thread.fetched()
            assignment = self.app.consumer_generation_id  # no wait since they were valid
            self.rounds += 1
            for record in chain.from_iterable(found.values()):
                if self.app.consumer_generation_id != assignment:
                    break
                await self.callback(self._to_message(TP(record.topic, record.partition), record))

    def begin_assignment(self) -> None:
        """What was handed over and is not yet taken counts no more."""
        self.app.consumer_generation_id += 1
        self._committed_offset.clear()
        self._thread.hold_back(self._held_back)

    def hold_back(self, topics: Iterable[str]) -> None:
        """Fetches nothing more of these topics; a few that were fetched may still come."""
        held = frozenset(topics)
        if held != self._held_back:
            self._held_back = held
            self._thread.hold_back(held)


class Transport(driver.Transport):  # type: ignore[misc]  # mypy skips faust
    """What the app uses instead of Faust's `kafka://`."""

    Consumer: ClassVar[type[Any]] = Consumer
