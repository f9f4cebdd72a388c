"""The command line, as a person meets it."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.cli import doctor
from infra.cli.run import AHEAD, ROLES
from infra.home import Part, hold, write_state
from infra.servers import EmbeddedServers
from infra.settings import CONTEXTS, Settings
from tests.fixtures.servers import DatabaseUrl

pytestmark = pytest.mark.slow  # each starts an interpreter


def thalweg(*arguments: str, home: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infra.cli.main", *arguments],
        env={"THALWEG_HOME": str(home), "PATH": "/usr/bin:/bin", "COLUMNS": "200", **settings},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.mark.parametrize("verbs", [["ps"], ["up"], ["run", "gateway"], ["chat", "hello"]])
def test_wrong_settings_end_every_verb_with_status_2(tmp_path: Path, verbs: list[str]) -> None:
    done = thalweg(*verbs, home=tmp_path, THALWEG_PORT="eighty", THALWEG_ENGINE="x")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0] == "THALWEG_ENGINE is not a setting of Thalweg; did you mean THALWEG_ENGINES?"
    assert lines[1].startswith('THALWEG_PORT is "eighty": ')
    assert len(lines) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_role_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    done = thalweg("run", "gatway", home=tmp_path)
    assert done.returncode == 2
    assert "'gatway'" in done.stderr
    assert "gateway, relay, answers" in done.stderr


def test_help_lists_the_verbs_and_imports_no_driver(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom infra.cli.main import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "sys.stderr.write(' '.join(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for verb in ("up", "run", "chat", "ps", "doctor", "keys"):
        assert f" {verb} " in done.stdout
    loaded = set(done.stderr.split())
    assert not loaded & {"psycopg", "aiokafka", "confluent_kafka", "redis", "fastapi", "pydantic"}


def test_ps_is_an_array_of_what_runs(tmp_path: Path) -> None:
    assert json.loads(thalweg("ps", "--json", home=tmp_path).stdout) == []
    parts = [Part("kafka", 7, {"kafka": 9}, "running"), Part("answers", None, {}, "restarting")]
    with hold(tmp_path):
        write_state(tmp_path, parts, address="http://127.0.0.1:1")
        listed = json.loads(thalweg("ps", "--json", home=tmp_path).stdout)
    assert listed == [
        {"role": "kafka", "pid": 7, "ports": {"kafka": 9}, "state": "running"},
        {"role": "answers", "pid": None, "ports": {}, "state": "restarting"},
    ]
    # the supervisor is gone: what its file says is no longer so
    assert json.loads(thalweg("ps", "--json", home=tmp_path).stdout) == []


def test_a_home_that_is_taken_is_refused_with_the_pid_of_its_owner(tmp_path: Path) -> None:
    import os

    with hold(tmp_path):
        done = thalweg("up", home=tmp_path)
    assert done.returncode == 1
    assert f"already runs in {tmp_path} (pid {os.getpid()})" in done.stdout


def test_a_port_that_is_taken_is_refused_with_its_variable(tmp_path: Path) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = thalweg("up", home=tmp_path, THALWEG_PORT=str(port))
    assert done.returncode == 1
    assert f"THALWEG_PORT is {port}: something else listens there" in done.stdout


def test_chat_without_an_installation_says_what_to_do(tmp_path: Path) -> None:
    done = thalweg("chat", "hello", home=tmp_path)
    assert done.returncode == 1
    assert "thalweg up" in done.stderr


def test_doctor_finds_nothing_wrong_on_a_fresh_machine(tmp_path: Path) -> None:
    done = thalweg("doctor", home=tmp_path / "home", THALWEG_PORT="18999")
    assert done.returncode == 0, done.stdout
    assert "wrong" not in done.stdout
    assert not (tmp_path / "home").exists()


def test_doctor_says_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    done = thalweg(
        "doctor",
        home=tmp_path,
        POSTGRES_ENABLE_DB_FUNCTIONS="y",
        THALWEG_REDIS="redis://127.0.0.1:1",
        THALWEG_ACCOUNTS_DATABASE_URL="postgresql://a@127.0.0.1:1/a",
        THALWEG_CONVERSATIONS_DATABASE_URL="postgresql://a@127.0.0.1:1/a",
        THALWEG_PROJECTIONS_DATABASE_URL="postgresql://a@127.0.0.1:1/a",
        THALWEG_ENGINES="tgi+http://127.0.0.1:1",
    )
    assert done.returncode == 1
    for todo in (
        "Unset POSTGRES_ENABLE_DB_FUNCTIONS",
        "correct THALWEG_REDIS",
        "correct THALWEG_ACCOUNTS_DATABASE_URL",
        "correct THALWEG_ENGINES",
    ):
        assert todo in done.stdout


def test_doctor_outlives_a_check_that_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(settings: Settings) -> Iterator[doctor.Finding]:
        raise RuntimeError("odd")

    monkeypatch.setenv("THALWEG_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(doctor, "disk", breaks)
    assert doctor.doctor() == 1
    told = capsys.readouterr().out
    assert "wrong  breaks could not be looked at: RuntimeError: odd\n       Check" in told
    assert "port 8080" in told, "the checks behind it are done too"


def test_doctor_outlives_a_home_that_is_a_file(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("")
    done = thalweg("doctor", home=home)
    assert (done.returncode, done.stderr) == (1, "")
    assert "set THALWEG_HOME to another folder" in done.stdout


@pytest.fixture
def own_servers(servers: EmbeddedServers, database_url: DatabaseUrl) -> dict[str, str]:
    """Settings of somebody who has servers of their own."""
    return {
        "THALWEG_KAFKA": servers.kafka.bootstrap,
        "THALWEG_REDIS": servers.redis.url,
        "THALWEG_SINGLE_MACHINE": "true",
        "THALWEG_PARTITIONS": "4",
        **{
            f"THALWEG_{context.upper()}_DATABASE_URL": database_url(context) for context in CONTEXTS
        },
    }


def test_with_servers_of_ones_own_prepare_makes_what_roles_rely_on(
    tmp_path: Path, own_servers: dict[str, str]
) -> None:
    home = tmp_path / "home"
    unprepared = thalweg("run", "relay", home=home, **own_servers)
    assert unprepared.returncode == 1
    assert "make them with `thalweg prepare`" in unprepared.stderr
    assert "thalweg prepare" in thalweg("run", "--help", home=home).stdout
    first = thalweg("prepare", home=home, **own_servers)
    assert (first.returncode, first.stderr) == (0, "")
    assert "Made the topics thalweg.accounts, " in first.stdout
    key = (home / "api-key").read_text().strip()
    assert key.startswith("tw_")
    assert key not in first.stdout
    assert (home / "api-key").stat().st_mode & 0o777 == 0o600
    again = thalweg("prepare", home=home, **own_servers)
    assert (again.returncode, again.stdout.splitlines()[1]) == (0, "The topics are there.")
    assert (home / "api-key").read_text().strip() == key
    cluster = thalweg(
        "run", "relay", home=home, **own_servers | {"THALWEG_SINGLE_MACHINE": "false"}
    )
    assert cluster.returncode == 1
    assert "has 1 replicas and needs 3" in cluster.stderr


def test_keys_belong_to_tenants(tmp_path: Path, own_servers: dict[str, str]) -> None:
    own_servers["THALWEG_READ_AFTER_SECONDS_MAX"] = "0.01"  # no projections run here
    assert thalweg("prepare", home=tmp_path, **own_servers).returncode == 0

    def keys(*arguments: str) -> subprocess.CompletedProcess[str]:
        return thalweg("keys", *arguments, home=tmp_path, **own_servers)

    assert keys("create", "--name", "theirs", "--tenant", "other").returncode == 0
    (ours,), (theirs,) = (
        keys("list").stdout.splitlines(),
        keys("list", "--tenant", "other").stdout.splitlines(),
    )
    assert ours.endswith("first")
    assert theirs.endswith("theirs")
    id_ = theirs.split()[0]
    refused = keys("revoke", id_)
    assert (refused.returncode, refused.stderr) == (
        1,
        f"There is no API key {id_}; list the keys to see their ids.\n",
    )
    assert keys("revoke", id_, "--tenant", "other").returncode == 0
    assert " revoked " in keys("list", "--tenant", "other").stdout


def test_an_id_that_is_none_is_refused_with_a_sentence(tmp_path: Path) -> None:
    done = thalweg("keys", "revoke", "nonsense", home=tmp_path)
    assert (done.returncode, done.stderr) == (
        1,
        "'nonsense' is not the id of a key; `thalweg keys list` shows them.\n",
    )


def test_help_of_ps_says_what_its_array_holds(tmp_path: Path) -> None:
    told = thalweg("ps", "--help", home=tmp_path).stdout
    assert "{role, pid, ports, state}" in told
    assert "object of name and port" in told


def test_what_roles_import_ahead_is_there() -> None:
    assert set(ROLES) < set(AHEAD)
    for modules in AHEAD.values():
        for module in modules:
            importlib.import_module(module)
