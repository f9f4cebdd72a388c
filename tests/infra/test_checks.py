"""What `thalweg doctor` makes of what servers say of themselves, without the servers."""

from collections.abc import Iterable, Mapping, Sequence

import pytest

from infra.checks.collector import collector
from infra.checks.databases import safety
from infra.checks.findings import Finding
from infra.checks.kafka import durability
from infra.checks.redis import fitness
from infra.servers.ports import free_port
from infra.settings import Settings
from tests.fixtures.collector import Collector

SAFE = {
    "default.replication.factor": "3",
    "offsets.topic.replication.factor": "3",
    "min.insync.replicas": "2",
    "unclean.leader.election.enable": "false",
}
ON = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
GOOD_REDIS = {
    "redis_version": "7.4.5",
    "maxmemory": 512_000_000,
    "maxmemory_policy": "volatile-ttl",
}


class FakeCluster:
    """Brokers that say what they are told to; None: they keep it to themselves."""

    def __init__(self, *brokers: Mapping[str, str | None] | None) -> None:
        self._brokers = dict(enumerate(brokers, 1))

    def brokers(self) -> Sequence[int]:
        return list(self._brokers)

    def options(self, broker: int) -> Mapping[str, str | None]:
        found = self._brokers[broker]
        if found is None:
            raise PermissionError
        return found


def wrong(findings: Iterable[Finding]) -> list[str]:
    found = [finding for finding in findings if finding.todo]
    assert all(finding.todo[0].isupper() and finding.todo.endswith(".") for finding in found)
    return [finding.what for finding in found]


def test_three_brokers_that_keep_what_they_acknowledge_are_well() -> None:
    assert wrong(durability(FakeCluster(SAFE, SAFE, SAFE))) == []


def test_fewer_than_three_brokers_are_too_few() -> None:
    assert wrong(durability(FakeCluster(SAFE, SAFE))) == ["Kafka can keep 2 copies"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("default.replication.factor", "2"),
        ("offsets.topic.replication.factor", "1"),
        ("min.insync.replicas", "1"),
        ("unclean.leader.election.enable", "true"),
    ],
)
def test_one_broker_that_differs_is_found_and_named(option: str, value: str) -> None:
    (what,) = wrong(durability(FakeCluster(SAFE, {**SAFE, option: value}, SAFE)))
    assert f"{value} on broker 2" in what
    assert what.startswith(option)


def test_a_cluster_that_does_not_tell_is_let_be() -> None:
    assert wrong(durability(FakeCluster(None, None, None))) == []


@pytest.mark.parametrize("name", list(ON))
def test_a_database_that_may_forget_what_it_committed_is_found(name: str) -> None:
    assert wrong(safety("conversations", {**ON, name: "off"})) == [
        f"the database of conversations has {name}=off"
    ]
    assert wrong(safety("conversations", ON)) == []


def test_read_models_may_lose_a_commit_but_not_a_page() -> None:
    assert wrong(safety("projections", {**ON, "synchronous_commit": "off"})) == []
    assert wrong(safety("projections", {**ON, "fsync": "off"})) != []


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"redis_version": "6.0.20"}, "Redis answers (version 6.0.20)"),
        ({"maxmemory_policy": "allkeys-random"}, "maxmemory-policy is allkeys-random"),
        ({"maxmemory_policy": "volatile-lfu"}, "maxmemory-policy is volatile-lfu"),
        ({"maxmemory": 0}, "maxmemory is not set"),
        ({"cluster_enabled": 1}, "Redis is in cluster mode"),
    ],
)
def test_a_redis_that_does_not_fit_is_found(change: dict[str, object], what: str) -> None:
    assert wrong(fitness({**GOOD_REDIS, **change})) == [what]


@pytest.mark.parametrize("version", ["6.2.14", "7.4.5", "8.0"])
def test_a_redis_that_fits_is_well(version: str) -> None:
    assert wrong(fitness({**GOOD_REDIS, "redis_version": version})) == []


def test_a_collector_is_asked_whether_it_takes_spans() -> None:
    with Collector() as listening:
        assert wrong(collector(Settings(otlp_endpoint=listening.endpoint))) == []
    away = Settings(otlp_endpoint=f"http://127.0.0.1:{free_port()}")
    assert len(wrong(collector(away))) == 1
