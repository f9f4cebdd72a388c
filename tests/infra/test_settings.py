"""What the environment may say, and what is told to a person when it says something wrong."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.engine_addresses import EngineAddress
from infra.limits import Limits
from infra.settings import METRICS_PORTS, Settings, SettingsRefused, table_rows
from infra.supervisor import ROLES

Env = pytest.MonkeyPatch


def refused(environment: Env, **variables: str) -> list[str]:
    for name, value in variables.items():
        environment.setenv(name, value)
    with pytest.raises(SettingsRefused) as caught:
        Settings.load()
    return caught.value.problems


def test_nothing_needs_to_be_set() -> None:
    settings = Settings.load()
    assert settings.port == 8080
    assert settings.home.name == ".thalweg"
    assert settings.home.is_absolute()
    assert settings.engines == ()


def test_an_empty_variable_is_as_if_it_were_not_set(monkeypatch: Env) -> None:
    monkeypatch.setenv("THALWEG_ENGINES", "")
    monkeypatch.setenv("THALWEG_PORT", "")
    assert Settings.load() == Settings()


def test_engines_are_a_list_with_their_protocols(monkeypatch: Env) -> None:
    monkeypatch.setenv("THALWEG_ENGINES", "tgi+http://a:1, openai+https://b/v1/")
    assert Settings.load().engines == (
        EngineAddress(kind="tgi", url="http://a:1"),
        EngineAddress(kind="openai", url="https://b/v1"),
    )


@pytest.mark.parametrize(
    "text", ["http://a:1", "tgi+a:1", "vllm+http://a", "tgi+http://", "tgi+dns://a"]
)
def test_an_engine_without_protocol_or_host_is_refused(monkeypatch: Env, text: str) -> None:
    (problem,) = refused(monkeypatch, THALWEG_ENGINES=text)
    assert problem.startswith("THALWEG_ENGINES is ")
    assert text in problem


def test_a_wrong_value_is_refused_with_name_value_and_what_is_expected(monkeypatch: Env) -> None:
    problems = refused(monkeypatch, THALWEG_PORT="eighty", THALWEG_LOG_LEVEL="loud")
    assert problems == [
        'THALWEG_PORT is "eighty": Input should be a valid integer, unable to parse string as an '
        "integer.",
        "THALWEG_LOG_LEVEL is \"loud\": Input should be 'debug', 'info', 'warning' or 'error'.",
    ]


@pytest.mark.parametrize(("name", "port"), [("PORT", 8080), ("ENGINE_PORT", 3000)])
def test_ports_of_metrics_leave_out_the_others(monkeypatch: Env, name: str, port: int) -> None:
    monkeypatch.setenv(f"THALWEG_{name}", str(port))
    for first in (port, port - METRICS_PORTS + 1):
        (problem,) = refused(monkeypatch, THALWEG_METRICS_PORT=str(first))
        assert f"THALWEG_METRICS_PORT is {first}" in problem
        assert f"THALWEG_{name} ({port})" in problem
    for first in (port + 1, port - METRICS_PORTS):
        monkeypatch.setenv("THALWEG_METRICS_PORT", str(first))
        assert Settings.load().metrics_port == first


def test_there_is_a_port_for_each_roles_metrics(monkeypatch: Env) -> None:
    assert len(ROLES) == METRICS_PORTS
    (problem,) = refused(monkeypatch, THALWEG_METRICS_PORT=str(65536 - METRICS_PORTS + 1))
    assert "less than or equal to 65529" in problem


def test_nothing_is_shown_unless_somebody_asks_and_then_to_this_machine_only() -> None:
    assert Settings().metrics_port is None
    assert Settings().metrics_host == "127.0.0.1"


def test_a_value_that_may_hold_a_password_is_not_shown(monkeypatch: Env) -> None:
    (problem,) = refused(monkeypatch, THALWEG_REDIS="http://:geheim@redis")
    assert problem.startswith("THALWEG_REDIS has a value that is not shown")
    assert "geheim" not in problem
    monkeypatch.delenv("THALWEG_REDIS")
    (problem,) = refused(monkeypatch, THALWEG_ACCOUNTS_DATABASE_URL="mysql://a:geheim@b/c")
    assert "geheim" not in problem


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://a:geheim wort@b/c",
        "postgresql://a:geheim%zz@b/c",
        "postgresql://a:geheim/wort@b/c",
        "postgresql://a:12/geheim@b/c",
        "postgresql://a:ge@geheim@b/c",
        "postgresql://a:geheim@b:x/c",
        "postgresql://a:geheim@b:99999/c",
        "postgresql://a:geheim@b/c?geheim=1",
    ],
)
def test_a_database_url_that_libpq_would_quote_is_refused_unseen(
    monkeypatch: Env, url: str
) -> None:
    (problem,) = refused(monkeypatch, THALWEG_CONVERSATIONS_DATABASE_URL=url)
    assert problem.startswith("THALWEG_CONVERSATIONS_DATABASE_URL has a value that is not shown")
    assert "geheim" not in problem
    assert "zz" not in problem


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://a:pa%20ss@b:5432/c",
        "postgres://a@[::1]:5432/c?sslmode=require",
        "postgresql://b1:1,b2:2/c",
        "postgresql:///c?host=/run/postgresql&user=a",
    ],
)
def test_a_database_url_that_libpq_reads_is_taken(monkeypatch: Env, url: str) -> None:
    monkeypatch.setenv("THALWEG_PROJECTIONS_DATABASE_URL", url)
    settings = Settings.load()
    assert settings.database_url("projections") == url
    assert url not in repr(settings)


@pytest.mark.parametrize(
    "engine",
    [
        "openai+http://user:geheim@a:1/v1",
        "tgi+http://geheim@a:1",
        "openai+https://a/v1?key=geheim",
        "tgi+http://a:1, openai+user:geheim@b",
    ],
)
def test_an_engine_with_a_password_is_refused_unseen(monkeypatch: Env, engine: str) -> None:
    (problem,) = refused(monkeypatch, THALWEG_ENGINES=engine)
    assert problem.startswith("THALWEG_ENGINES ")
    assert "without a user, a password" in problem
    assert "geheim" not in problem


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("THALWEG_ENGINES", "tgi+http://h:abc"),
        ("THALWEG_ENGINES", "tgi+http://h:99999"),
        ("THALWEG_ENGINES", "tgi+http://h:0"),
        ("THALWEG_ENGINES", "tgi+http://[h"),
        ("THALWEG_ENGINES", "tgi+http://h h:1"),
        ("THALWEG_KAFKA", "h:abc"),
        ("THALWEG_KAFKA", "h:99999"),
        ("THALWEG_KAFKA", "h:1,"),
        ("THALWEG_KAFKA", "kafka://h:1"),
        ("THALWEG_REDIS", "redis://h:abc"),
        ("THALWEG_REDIS", "redis://h:99999"),
        ("THALWEG_REDIS", "redis://"),
        ("THALWEG_REDIS", "unix://"),
        ("THALWEG_REDIS", "redis://h/x"),
        ("THALWEG_HOST", "http://h"),
        ("THALWEG_HOST", "a b"),
        ("THALWEG_HOST", "1.2.3.400"),
        ("THALWEG_ANSWER_SECONDS_MAX", "inf"),
        ("THALWEG_DRAIN_SECONDS_MAX", "nan"),
    ],
)
def test_a_value_that_cannot_work_is_refused_at_start(
    monkeypatch: Env, variable: str, value: str
) -> None:
    problems = refused(monkeypatch, **{variable: value})
    assert [problem.split()[0] for problem in problems] == [variable]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("THALWEG_HOST", "::"),
        ("THALWEG_HOST", "my-host.local"),
        ("THALWEG_KAFKA", "[::1]:9092, kafka_2:9092"),
        ("THALWEG_REDIS", "rediss://:p%40ss@h:6380/1"),
        ("THALWEG_REDIS", "unix:///run/redis.sock"),
        ("THALWEG_ENGINES", "tgi+http://[::1]:80"),
    ],
)
def test_less_usual_addresses_are_taken(monkeypatch: Env, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    Settings.load()


def test_a_misspelt_variable_is_refused_with_the_nearest_name(monkeypatch: Env) -> None:
    assert refused(monkeypatch, THALWEG_ENGINE="tgi+http://a:1") == [
        "THALWEG_ENGINE is not a setting of Thalweg; did you mean THALWEG_ENGINES?"
    ]


def test_a_key_that_expires_under_an_answer_is_refused(monkeypatch: Env) -> None:
    (problem,) = refused(monkeypatch, THALWEG_UNSTORED_SECONDS_MAX="719")
    assert "THALWEG_UNSTORED_SECONDS_MAX is 719: it should be 720 or more" in problem
    assert Limits().live_expiry_seconds == 3_600
    least = Limits(unstored_seconds_max=720)
    assert least.live_expiry_seconds == least.live_open_expiry_seconds == 660


def test_tokens_that_are_kept_too_short_are_refused(monkeypatch: Env) -> None:
    (problem,) = refused(monkeypatch, THALWEG_TOKENS_RETENTION_SECONDS="9599")
    assert "THALWEG_TOKENS_RETENTION_SECONDS is 9599: it should be 9600 or more" in problem
    assert Limits(tokens_retention_seconds=9600).tokens_retention == 9600
    assert Limits().tokens_retention == 9600
    assert Limits(answer_seconds_max=60).tokens_retention == 4200


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("THALWEG_CLAIM_AGAIN_SECONDS", "1.5"),
        ("THALWEG_HEARTBEAT_SECONDS", "1"),
        ("THALWEG_UNANSWERED_REQUESTS_PER_TENANT_MAX", "5000"),
        ("THALWEG_UNFINISHED_REQUESTS_MAX", "2000"),
        ("THALWEG_ANSWER_TOKENS_DEFAULT", "20000"),
        ("THALWEG_EVENT_BYTES_MAX", "100000"),
    ],
)
def test_limits_that_contradict_each_other_are_refused(
    monkeypatch: Env, variable: str, value: str
) -> None:
    (problem,) = refused(monkeypatch, **{variable: value})
    assert problem.startswith(f"{variable} is {value}: it should be")


def test_your_own_kafka_has_more_partitions_and_replicas(monkeypatch: Env) -> None:
    assert (Settings().partitions, Settings().single_machine) == (16, True)
    monkeypatch.setenv("THALWEG_KAFKA", "a:9092,b:9092")
    assert (Settings.load().partitions, Settings.load().single_machine) == (64, False)
    monkeypatch.setenv("THALWEG_SINGLE_MACHINE", "true")
    monkeypatch.setenv("THALWEG_PARTITIONS", "8")
    assert (Settings.load().partitions, Settings.load().single_machine) == (8, True)


@given(
    engines=st.lists(
        st.sampled_from(["tgi+http://a:1", "openai+http://b:2/v1", "tgi+dns://c:3"]), max_size=3
    ),
    port=st.integers(1, 65535),
    kafka=st.sampled_from([None, "a:1", "a:1,b:2"]),
    seconds=st.floats(0.01, 5000),
    single=st.sampled_from([None, True, False]),
)
def test_a_child_process_gets_the_same_settings(
    engines: list[str], port: int, kafka: str | None, seconds: float, single: bool | None
) -> None:
    settings = Settings(
        engines=tuple(EngineAddress.parse(text) for text in engines),
        port=port,
        kafka=kafka,
        answer_seconds_max=seconds,
        single_machine=single,
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.environment().items():
            patch.setenv(name, value)
        assert Settings.load() == settings


def test_every_setting_has_a_row_with_its_meaning() -> None:
    rows = table_rows()
    assert [name for name, _, _ in rows if name == name.upper() and name.startswith("THALWEG_")]
    assert all(meaning for _, _, meaning in rows)
    assert len(table_rows("settings")) + len(table_rows("limits")) == len(rows)
    assert not any(str(os.getcwd()) in default for _, default, _ in rows)
