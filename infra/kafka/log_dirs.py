"""How many bytes each topic takes on the brokers' disks.

No Python client asks for that (DescribeLogDirs, KIP-113), so that its two structures stand here, in
the words of aiokafka. Version 1 is the oldest that Kafka 4 takes, and has no flexible fields.
"""

from collections import Counter
from collections.abc import Collection

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Int64, Schema, String

REQUEST_SECONDS_MAX = 5


class DescribeLogDirsResponse(Response):  # type: ignore[misc]
    API_KEY = 35
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "results",
            Array(
                ("error_code", Int16),
                ("log_dir", String("utf-8")),
                (
                    "topics",
                    Array(
                        ("name", String("utf-8")),
                        (
                            "partitions",
                            Array(
                                ("partition", Int32),
                                ("size", Int64),
                                ("offset_lag", Int64),
                                ("is_future", Boolean),
                            ),
                        ),
                    ),
                ),
            ),
        ),
    )


class DescribeLogDirsStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 35
    API_VERSION = 1
    RESPONSE_TYPE = DescribeLogDirsResponse
    SCHEMA = Schema(
        (
            "topics",
            Array(("topic", String("utf-8")), ("partitions", Array(Int32))),
        )
    )


class DescribeLogDirsRequest(Request[DescribeLogDirsStruct]):  # type: ignore[misc]
    API_KEY = 35

    def build(self, request_struct_class: type[DescribeLogDirsStruct]) -> DescribeLogDirsStruct:
        return request_struct_class(None)  # of every topic


async def topic_bytes(bootstrap: str, topics: Collection[str]) -> dict[str, int]:
    """Of all replicas together. Raises aiokafka's KafkaError."""
    client = AIOKafkaClient(
        bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_SECONDS_MAX * 1_000
    )
    await client.bootstrap()
    try:
        found: Counter[str] = Counter()
        for broker in client.cluster.brokers():
            answer = await client.send(broker.nodeId, DescribeLogDirsRequest())
            for _error, _folder, of_topics in answer.results:
                for name, partitions in of_topics:
                    if name in topics:
                        found[name] += sum(size for _, size, _, _ in partitions)
        return {name: found[name] for name in topics}
    finally:
        await client.close()
