"""The embedded servers: real ones, their data, their ends, and what a kill leaves."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from infra.servers import ALL, EmbeddedServers, ServerDidNotStart, resolve
from infra.servers.jars import JarRefused, _one, locked
from infra.servers.kafka import cluster_id
from infra.servers.ports import Memory, free_port, is_free, reserve
from infra.servers.process import identity
from infra.settings import CONTEXTS, Settings
from tests.fixtures.processes import alive, wait_for
from tests.fixtures.servers import shared_cache

pytestmark = pytest.mark.slow
SECONDS_MAX = 60.0


def embedded(home: Path, *which: str) -> EmbeddedServers:
    return EmbeddedServers(home, cache=shared_cache(), which=which or ALL)


@pytest.fixture
def light(tmp_path: Path) -> Iterator[EmbeddedServers]:
    """PostgreSQL and Redis: they start in a second."""
    with embedded(tmp_path, "postgres", "redis") as servers:
        yield servers


def test_each_context_has_a_database_that_the_others_cannot_enter(light: EmbeddedServers) -> None:
    for context in CONTEXTS:
        with psycopg.connect(light.database_url(context)) as connection:
            connection.execute("CREATE TABLE mine (id int)")
    stranger = light.database_url("accounts").rpartition("/")[0] + "/conversations"
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(stranger)


def test_commits_are_flushed_to_the_disk(light: EmbeddedServers) -> None:
    with psycopg.connect(light.database_url("accounts")) as connection:
        shown = [
            connection.execute(f"SHOW {name}").fetchone() for name in ("fsync", "full_page_writes")
        ]
    assert shown == [("on",), ("on",)]


def test_the_data_and_the_addresses_survive_a_restart(tmp_path: Path) -> None:
    with embedded(tmp_path) as first:
        addresses = [first.kafka_bootstrap, first.redis_url, first.database_url("accounts")]
        with psycopg.connect(first.database_url("accounts")) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        client = AdminClient({"bootstrap.servers": first.kafka_bootstrap})
        client.create_topics([NewTopic("kept", 1)])["kept"].result(SECONDS_MAX)
        producer = Producer({"bootstrap.servers": first.kafka_bootstrap, "acks": "all"})
        producer.produce("kept", b"a token")
        assert producer.flush(SECONDS_MAX) == 0
    with embedded(tmp_path) as again:
        assert addresses == [
            again.kafka_bootstrap,
            again.redis_url,
            again.database_url("accounts"),
        ]
        with psycopg.connect(again.database_url("accounts")) as connection:
            assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
        consumer = Consumer({"bootstrap.servers": again.kafka_bootstrap, "group.id": "test"})
        consumer.assign([TopicPartition("kept", 0, 0)])
        message = consumer.poll(SECONDS_MAX)
        consumer.close()
        assert message is not None
        assert message.value() == b"a token"


def test_a_killed_kafka_comes_back_with_its_address(tmp_path: Path) -> None:
    with embedded(tmp_path, "kafka") as servers:
        address = servers.kafka_bootstrap
        servers.kafka.kill()
        assert not servers.kafka.running
        servers.start("kafka")
        assert servers.kafka_bootstrap == address
        assert AdminClient({"bootstrap.servers": address}).list_topics(timeout=SECONDS_MAX).brokers


def test_nothing_runs_after_the_end(tmp_path: Path) -> None:
    with embedded(tmp_path, "postgres", "redis") as servers:
        pids = [pid for pid in servers.pids.values() if pid]
        assert len(pids) == 2
    assert not any(alive(pid) for pid in pids)


def test_a_server_ends_with_its_warden(light: EmbeddedServers) -> None:
    pid = light.redis.pid
    assert pid is not None
    warden = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(warden, signal.SIGKILL)
    wait_for(lambda: not alive(pid), "the end of the server")
    light.start("redis")


START_AND_SAY = """
import sys, time
from pathlib import Path
from infra.servers import EmbeddedServers
servers = EmbeddedServers(Path(sys.argv[1]), which=("postgres", "redis"))
servers.start()
print(*servers.pids.values(), flush=True)
time.sleep(60)
"""


def test_servers_end_when_their_owner_is_killed_and_the_next_start_recovers(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", START_AND_SAY, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout is not None
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        owner.kill()
    with embedded(tmp_path, "postgres", "redis") as again:
        assert not any(alive(pid) for pid in pids)
        with redis.Redis.from_url(again.redis_url) as client:
            assert client.ping()


def test_a_pid_file_of_a_former_boot_does_not_keep_postgres_from_starting(tmp_path: Path) -> None:
    with embedded(tmp_path, "postgres") as servers:
        data = servers.postgres.data
    owner = data.stat()
    user = owner.st_uid if os.geteuid() == 0 else None  # PostgreSQL minds only its own user's
    with subprocess.Popen(["/bin/sleep", "60"], user=user) as stranger:
        try:
            stale = data / "postmaster.pid"
            stale.write_text(f"{stranger.pid}\n{data}\n1\n5432\n\n127.0.0.1\n0 0\nready\n")
            os.chown(stale, owner.st_uid, owner.st_gid)
            with embedded(tmp_path, "postgres") as servers:
                assert servers.postgres.running
            assert alive(stranger.pid)
        finally:
            stranger.kill()


def test_a_pid_file_that_a_killed_postgres_left_empty_keeps_nobody_from_starting(
    tmp_path: Path,
) -> None:
    with embedded(tmp_path, "postgres") as servers:
        data = servers.postgres.data
    owner = data.stat()
    (data / "postmaster.pid").touch()
    os.chown(data / "postmaster.pid", owner.st_uid, owner.st_gid)
    with embedded(tmp_path, "postgres") as servers:
        assert servers.postgres.running


def test_what_a_killed_initdb_left_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "postgres" / "data").mkdir(parents=True)
    (tmp_path / "postgres" / "data" / "PG_VERSION").write_text("18\n")
    with embedded(tmp_path, "postgres") as servers:
        assert servers.postgres.running


@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_postgres_runs_below_a_folder_of_any_mode(tmp_path: Path, mode: int) -> None:
    parent = tmp_path / "parent"
    parent.mkdir()
    parent.chmod(mode)
    with embedded(parent / "home", "postgres") as servers:
        assert servers.postgres.running
        if os.geteuid() == 0:
            assert servers.postgres.data.stat().st_uid != 0


def test_who_has_left_root_may_run_what_lies_below_a_folder_of_mode_700(tmp_path: Path) -> None:
    """initdb asks the kernel so about the postgres of a virtual environment below such a folder."""
    program = tmp_path / "locked" / "program"
    program.parent.mkdir()
    program.touch(mode=0o755)
    program.parent.chmod(0o700)
    leave = "warden.become(65534, 65534);" if os.geteuid() == 0 else ""
    may_run = f"print(os.access({str(program)!r}, os.X_OK))"
    ask = f"import os; from infra.servers import warden; {leave} {may_run}"
    asked = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == "True"


def test_two_homes_run_side_by_side(tmp_path: Path) -> None:
    with (
        embedded(tmp_path / "one", "postgres", "redis") as one,
        embedded(tmp_path / "two", "postgres", "redis") as two,
    ):
        assert one.redis_url != two.redis_url
        with psycopg.connect(one.database_url("accounts")) as connection:
            connection.execute("CREATE TABLE here (id int)")
        with psycopg.connect(two.database_url("accounts")) as connection:
            found = connection.execute("SELECT to_regclass('here')").fetchone()
        assert found == (None,)


def test_a_port_that_was_taken_meanwhile_is_chosen_again(tmp_path: Path) -> None:
    kept = embedded(tmp_path, "redis").redis.ports()["redis"]
    import socket

    with socket.socket() as thief:
        thief.bind(("127.0.0.1", kept))
        thief.listen()
        with embedded(tmp_path, "redis") as servers:
            assert servers.redis.ports()["redis"] != kept
            with redis.Redis.from_url(servers.redis_url) as client:
                assert client.ping()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    servers = embedded(tmp_path, "redis")
    servers.redis.memory_bytes_max = -5  # no number that Redis takes
    servers.settle()
    with pytest.raises(
        ServerDidNotStart, match=r"redis did not start: its process ended(?s:.*)maxmemory"
    ):
        servers.start()
    assert not servers.redis.running


def test_secrets_can_be_read_by_their_owner_alone(light: EmbeddedServers) -> None:
    kept = light.home / "servers.json"
    assert kept.stat().st_mode & 0o077 == 0
    assert light.redis_url.split(":")[2].split("@")[0] in kept.read_text()


def test_commands_beside_a_running_installation_find_its_addresses(light: EmbeddedServers) -> None:
    found = resolve(Settings(home=light.home))
    assert found.redis == light.redis_url
    assert found.accounts_database_url == light.database_url("accounts")
    own = resolve(Settings(home=light.home, redis="redis://elsewhere"))
    assert own.redis == "redis://elsewhere"


def test_what_a_server_writes_is_bounded(tmp_path: Path) -> None:
    servers = EmbeddedServers(tmp_path, which=("redis",), log_bytes_max=400)
    for _ in range(3):
        servers.start()
        servers.stop()
    assert servers.redis.log.stat().st_size <= 400
    assert Path(f"{servers.redis.log}.1").stat().st_size <= 4096


def test_a_jar_that_is_not_the_recorded_one_is_refused(tmp_path: Path) -> None:
    coordinate, right = next(row for row in locked() if "scala-logging" in row[0])
    wrong = "0" * 64
    with pytest.raises(JarRefused, match=right):
        _one(coordinate, wrong, tmp_path / "jar")
    assert not (tmp_path / "jar").exists()


def test_a_process_is_told_from_a_later_one_with_its_pid() -> None:
    assert identity(os.getpid()) == identity(os.getpid()) != ""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert identity(child.pid) == ""


def test_ports_are_kept(tmp_path: Path) -> None:
    first = Memory(tmp_path).port("x", rechoose=True)
    assert Memory(tmp_path).port("x", rechoose=True) == first
    assert is_free(free_port())


def test_a_port_that_a_living_process_was_given_is_given_to_nobody_else() -> None:
    """Nobody listens there yet, or not any more."""
    code = "from infra.servers.ports import free_port; print(free_port(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        assert is_free(port)
        assert not reserve(port)
        other.kill()
    assert reserve(port), "a process that was killed has none"


def test_the_id_of_a_new_kafka_is_no_option_to_its_tool() -> None:
    """A - in front is one id in 64: with 2,000 of them chance has no say."""
    made = [cluster_id() for _ in range(2_000)]
    assert [one for one in made if one.startswith("-") or len(one) != 22] == []
