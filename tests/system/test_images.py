"""What the images hold is enough: roles and engine start from it alone, and answer.

No Docker engine is needed: an environment with exactly the packages of an image, the folders that
the Dockerfile copies, and nothing else of this project on the path. The disk of the roles is one
that may not be written, but for the folder of `prepare`.
"""

import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.cli.run import ROLES
from infra.servers import EmbeddedServers
from infra.servers.ports import free_port
from tests.fixtures.processes import ROOT, wait_for
from tests.fixtures.servers import shared_cache

BUILD_SECONDS_MAX = 240
START_SECONDS_MAX = 240
"""Eight processes, which compile every module that they import: nothing may be written there."""
UV = ROOT / ".venv" / "bin" / "uv"


@dataclass(frozen=True)
class Image:
    """An image as far as its files go."""

    python: Path
    code: Path

    def start(self, log: Path, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
        """`docker run IMAGE ARGUMENTS...`: with these variables and no others."""
        with log.open("ab") as output:
            return subprocess.Popen(
                [self.python, "-m", "infra.cli.main", "run", *arguments],
                cwd=self.code,
                env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **settings},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )


def copied(stage: str) -> list[str]:
    """The folders that a stage of the Dockerfile takes from this project."""
    text = (ROOT / "Dockerfile").read_text()
    (lines,) = re.findall(rf"^FROM \S+ AS {stage}\n(.*?)(?=^FROM |\Z)", text, re.M | re.S)
    return re.findall(r"^COPY (?!--)(\S+) \S+$", lines, re.M)


def build(folder: Path, requirements: str, *stages: str) -> Image:
    code, environment = folder / "code", folder / "venv"
    for one in (source for stage in stages for source in copied(stage)):
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", one],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
        for name in listed.stdout.splitlines():
            if (ROOT / name).is_file():
                (code / name).parent.mkdir(parents=True, exist_ok=True)
                (code / name).write_bytes((ROOT / name).read_bytes())
    made = {**os.environ, "VIRTUAL_ENV": str(environment)}
    sync = [UV, "pip", "sync", "-q", "--require-hashes", ROOT / "requirements" / requirements]
    for command in ([UV, "venv", "-q", environment, "--python", ROOT / ".venv/bin/python"], sync):
        subprocess.run(command, env=made, check=True, timeout=BUILD_SECONDS_MAX)
    return Image(environment / "bin" / "python", code)


@pytest.fixture(scope="module")
def roles_image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build(tmp_path_factory.mktemp("roles"), "roles.txt", "program", "roles")


@pytest.fixture(scope="module")
def engine_image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build(tmp_path_factory.mktemp("engine"), "engine.txt", "program", "engine")


Run = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Starts an image's process; all are ended in the end."""
    children: list[subprocess.Popen[bytes]] = []

    def start(image: Image, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
        log = tmp_path / f"{arguments[0]}.log"
        children.append(image.start(log, *arguments, **settings))
        return children[-1]

    yield start
    for child in children:
        child.terminate()
    for child in children:
        child.wait(30)


@pytest.fixture
def own_servers(tmp_path: Path) -> Iterator[EmbeddedServers]:
    """Topics have the same names in every installation: those of other tests are not to be met."""
    embedded = EmbeddedServers(tmp_path / "servers", cache=shared_cache())
    embedded.start()
    yield embedded
    embedded.stop()


def test_a_question_is_answered_by_nothing_but_what_the_images_hold(
    roles_image: Image,
    engine_image: Image,
    own_servers: EmbeddedServers,
    run: Run,
    tmp_path: Path,
) -> None:
    engine_port, port = free_port(), free_port()
    home, alive = tmp_path / "home", tmp_path / "alive"
    run(
        engine_image,
        "engine",
        THALWEG_ENGINE_PORT=str(engine_port),
        THALWEG_HOME=str(tmp_path / "none"),
    )
    settings = {
        "THALWEG_KAFKA": own_servers.kafka.bootstrap,
        "THALWEG_REDIS": own_servers.redis.url,
        "THALWEG_ENGINES": f"tgi+http://127.0.0.1:{engine_port}",
        "THALWEG_PORT": str(port),
        "THALWEG_PARTITIONS": "16",
        "THALWEG_SINGLE_MACHINE": "true",
        **{
            f"THALWEG_{context.upper()}_DATABASE_URL": own_servers.postgres.url(context)
            for context in ("conversations", "accounts", "projections", "sagas")
        },
    }
    prepared = run(roles_image, "prepare", **settings, THALWEG_HOME=str(home))
    assert prepared.wait(START_SECONDS_MAX) == 0, logs(tmp_path)
    key = (home / "api-key").read_text().strip()
    (unwritable := tmp_path / "unwritable").touch()  # a file: no folder can be made of it
    for role in ROLES:
        if role != "engine":
            run(
                roles_image,
                role,
                **settings,
                THALWEG_HOME=str(unwritable / "home"),
                THALWEG_ALIVE_FILE=f"{alive}-{role}",
            )
    try:
        said = wait_for(lambda: answered(port, key), "an answer", seconds_max=START_SECONDS_MAX)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{logs(tmp_path)}") from None
    assert "line" in said, "the demo model was trained to say what it is"
    for role in ROLES:
        if role != "engine":
            checked = subprocess.run(
                [roles_image.python, "-m", "infra.alive"],
                cwd=roles_image.code,
                env={"THALWEG_ALIVE_FILE": f"{alive}-{role}"},
                check=False,
            )
            assert checked.returncode == 0, role


def answered(port: int, key: str) -> str:
    """What the demo model says; empty as long as nobody is there to ask."""
    body = {
        "model": "thalweg-demo",
        "messages": [{"role": "user", "content": "What is a thalweg?"}],
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=START_SECONDS_MAX) as response:
            return str(json.load(response)["choices"][0]["message"]["content"])
    except OSError:
        return ""


def logs(folder: Path) -> str:
    return "\n".join(f"--- {log.name}\n{log.read_text()[-2000:]}" for log in folder.glob("*.log"))
