"""What aiokafka makes of a fetched partition, without the one record that would stop it for ever.

A header's name that is not UTF-8 ends aiokafka's iteration with a UnicodeDecodeError, at each fetch
again: no worker would ever get past it. A batch is of one producer, and ours send no such names,
so the rest of that batch is passed over, with an alarm.
"""

import logging
from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher

log = logging.getLogger("thalweg.answers")


class _Batch:
    """A batch of records that ends before the first one that can't be decoded."""

    def __init__(self, batch: Any, partition: Any) -> None:
        self._batch, self._partition = batch, partition

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._batch
        except UnicodeDecodeError as error:
            log.error(
                "records of somebody else's are passed over",
                extra={
                    "topic": self._partition.topic,
                    "partition": self._partition.partition,
                    "up_to_offset": self._batch.next_offset,
                    "error": f"a header's name is not UTF-8: {error}",
                },
            )


class _Batches:
    """Stands for aiokafka's MemoryRecords."""

    def __init__(self, records: Any, partition: Any) -> None:
        self._records, self._partition = records, partition

    def has_next(self) -> bool:
        return bool(self._records.has_next())

    def next_batch(self) -> _Batch:
        return _Batch(self._records.next_batch(), self._partition)


class DecodableRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # mypy skips aiokafka
    def __init__(self, tp: Any, records: Any, *arguments: Any, **named: Any) -> None:
        super().__init__(tp, _Batches(records, tp), *arguments, **named)


def use() -> None:
    """For every consumer of this process (aiokafka has no seam for it)."""
    fetcher.PartitionRecords = DecodableRecords
