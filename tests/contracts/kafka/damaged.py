"""Records as only a client that is none of ours sends them."""

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy as Records

BATCH_BYTES_MAX = 16_384


class RawName(str):
    """A header's name whose bytes are not UTF-8."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return b"ce_\xff"


async def send_with_a_raw_name(kafka: str, topic: str, partition: int) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka) as client:
        batch = client.create_batch()
        batch._builder = Records(2, 0, 0, -1, -1, 0, BATCH_BYTES_MAX)
        batch.append(key=b"k", value=b"{}", timestamp=None, headers=[(RawName("ce_type"), b"x")])
        await (await client.send_batch(batch, topic, partition=partition))
