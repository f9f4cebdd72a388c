"""The command line, as a person meets it."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from infra.cli.run import AHEAD, ROLES
from infra.home import Part, hold, write_state

pytestmark = pytest.mark.slow  # each starts an interpreter


def thalweg(*arguments: str, home: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infra.cli.main", *arguments],
        env={"THALWEG_HOME": str(home), "PATH": "/usr/bin:/bin", "COLUMNS": "200", **settings},
        capture_output=True,
        text=True,
        timeout=60,
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


def test_what_roles_import_ahead_is_there() -> None:
    assert set(ROLES) < set(AHEAD)
    for modules in AHEAD.values():
        for module in modules:
            importlib.import_module(module)
