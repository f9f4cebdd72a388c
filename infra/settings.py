"""Every setting and every limit, read once from THALWEG_* variables and checked before anything
starts.

A setting has a default that is right for `make run`. A limit has a unit in its name and its reason
in its description. A wrong value is refused as one sentence a problem (`SettingsRefused`), never
half obeyed.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from infra import addresses, failpoints
from infra.engine_addresses import EngineAddress, ModelAlias
from infra.limits import Limits

PREFIX = "THALWEG_"
SECRET_FIELDS = frozenset(
    {
        "conversations_database_url",
        "accounts_database_url",
        "projections_database_url",
        "sagas_database_url",
        "redis",
        "otlp_endpoint",
    }
)
CONTEXTS = ("conversations", "accounts", "projections", "sagas")
METRICS_PORTS = 7  # a port for each role that `thalweg up` starts
EMBEDDED_PARTITIONS = 16
CLUSTER_PARTITIONS = 64


class SettingsRefused(Exception):
    """The environment holds settings that cannot be used; `problems` has one sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Settings(Limits, BaseSettings):
    """What an installation may choose. Immutable: a process lives with what it started with."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True, allow_inf_nan=False
    )

    home: Path = Field(
        Path(".thalweg"), description="folder of the data, `api-key` and `state.json`"
    )
    cache: Path = Field(
        Path("~/.cache/thalweg"), description="folder of downloads that all homes share"
    )
    host: str = Field("127.0.0.1", min_length=1, description="address the gateway listens on")
    port: int = Field(8080, ge=1, le=65535, description="port the gateway listens on")
    engines: Annotated[tuple[EngineAddress, ...], NoDecode] = Field(
        (),
        description="comma-separated `tgi+http://host:port` or `openai+http://host:port/v1`, or "
        "with `dns` for `http`: an engine at each address of the name, looked up every 5 s; or "
        "`tgi+srv://_tgi._tcp.host`: at each of its SRV records; "
        "empty: the local engine",
    )
    model_aliases: Annotated[tuple[ModelAlias, ...], NoDecode] = Field(
        (),
        description="comma-separated `name=model`: names that clients may say for models that "
        "engines serve; the same for every gateway and worker",
    )
    engine_port: int = Field(
        0, ge=0, le=65535, description="port of the local engine; 0: chosen once and kept"
    )
    engine_host: str = Field(
        "127.0.0.1", min_length=1, description="address the local engine listens on"
    )
    kafka: str | None = Field(None, description="`host:port,...` of your Kafka; empty: embedded")
    redis: str | None = Field(
        None, repr=False, description="`redis://...` of your Redis; empty: embedded"
    )
    conversations_database_url: str | None = Field(
        None,
        repr=False,
        description="`postgresql://...` of the conversations' event store; empty: embedded",
    )
    accounts_database_url: str | None = Field(
        None,
        repr=False,
        description="`postgresql://...` of the accounts' event store; empty: embedded",
    )
    projections_database_url: str | None = Field(
        None, repr=False, description="`postgresql://...` of the read models; empty: embedded"
    )
    sagas_database_url: str | None = Field(
        None,
        repr=False,
        description="`postgresql://...` of what sagas keep: state, timers, commands on their way; "
        "empty: embedded",
    )
    partitions: int = Field(
        0,
        ge=0,
        le=4096,
        description="partitions of every topic, for life; 0: 16 when Kafka is embedded, else 64",
    )
    single_machine: bool | None = Field(
        None,
        description="says that one broker without replicas is meant; empty: yes if Kafka is "
        "embedded",
    )
    alive_file: Path | None = Field(
        None, description="a role touches this file while it lives, for `python -m infra.alive`"
    )
    otlp_endpoint: str | None = Field(
        None,
        repr=False,
        description="`http://host:4318` of an OpenTelemetry collector that traces go to; empty: "
        "none are made",
    )
    trace_ratio: float = Field(
        1,
        ge=0,
        le=1,
        description="share of the traces that begin at the gateway and are exported; one that a "
        "client began is kept or left out as its `traceparent` says",
    )
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535 - METRICS_PORTS + 1,
        description="port where a role shows `/metrics` to Prometheus, which users never reach; "
        "under `thalweg up` each role has its own, seven from this one on; empty: none",
    )
    metrics_host: str = Field(
        "127.0.0.1", min_length=1, description="address that `/metrics` listens on"
    )
    failpoints: str = Field(
        "",
        description="for tests only, and refused unless `single_machine`: where processes kill "
        "themselves (see `infra/failpoints.py`), or `file`; empty: nowhere",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe level that is logged"
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="`auto`: text on a terminal, JSON elsewhere"
    )

    @field_validator("engines", mode="before")
    @classmethod
    def _engines(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(EngineAddress.parse(part) for part in value.split(",") if part.strip())
        return value

    @field_validator("model_aliases", mode="before")
    @classmethod
    def _model_aliases(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(ModelAlias.parse(part) for part in value.split(",") if part.strip())
        return value

    @field_validator("host", "engine_host", "metrics_host")
    @classmethod
    def _host(cls, value: str) -> str:
        if not addresses.is_host(value):
            raise ValueError("should be an IP address or a name of this machine")
        return value

    @field_validator("home", "cache")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("kafka")
    @classmethod
    def _kafka(cls, value: str | None) -> str | None:
        if value:
            addresses.check_kafka(value)
        return value

    @field_validator("redis")
    @classmethod
    def _redis(cls, value: str | None) -> str | None:
        if value:
            addresses.check_redis(value)
        return value

    @field_validator("otlp_endpoint")
    @classmethod
    def _otlp_endpoint(cls, value: str | None) -> str | None:
        return addresses.check_collector(value) if value else value

    @field_validator(*(f"{context}_database_url" for context in CONTEXTS))
    @classmethod
    def _database(cls, value: str | None) -> str | None:
        if value:
            addresses.check_database(value)
        return value

    @model_validator(mode="before")
    @classmethod
    def _derived(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        filled = dict(data)
        embedded = not filled.get("kafka")
        if str(filled.get("partitions") or "0") == "0":
            filled["partitions"] = EMBEDDED_PARTITIONS if embedded else CLUSTER_PARTITIONS
        if filled.get("single_machine") is None:
            filled["single_machine"] = embedded
        return filled

    @model_validator(mode="after")
    def _metrics_are_apart(self) -> Self:
        if self.metrics_port is not None:
            last = self.metrics_port + METRICS_PORTS - 1
            for name in ("port", "engine_port"):
                if self.metrics_port <= getattr(self, name) <= last:
                    raise ValueError(
                        f"THALWEG_METRICS_PORT is {self.metrics_port}: it should leave out "
                        f"THALWEG_{name.upper()} ({getattr(self, name)}), for roles show metrics "
                        f"at {self.metrics_port} to {last}"
                    )
        return self

    @model_validator(mode="after")
    def _no_failpoints_where_users_are(self) -> Self:
        if self.failpoints and not self.single_machine:
            raise ValueError(
                "THALWEG_FAILPOINTS makes processes kill themselves and is for tests: it is refused"
                " unless THALWEG_SINGLE_MACHINE is true"
            )
        if self.failpoints not in ("", failpoints.FROM_FILE):
            failpoints.parse(self.failpoints)
        return self

    @classmethod
    def load(cls) -> Self:
        """Reads the process's environment; `SettingsRefused` names every problem there is."""
        known = [f"{PREFIX}{field}".upper() for field in cls.model_fields]
        problems = [
            _unknown(name, known)
            for name in sorted(os.environ)
            if name.startswith(PREFIX) and name not in known
        ]
        try:
            settings = cls()
        except ValidationError as refused:
            problems += [_sentence(error) for error in refused.errors()]
            raise SettingsRefused(problems) from None
        if problems:
            raise SettingsRefused(problems)
        return settings

    def environment(self) -> dict[str, str]:
        """The variables from which `load` makes these settings again, for a child process."""
        out: dict[str, str] = {}
        for field in type(self).model_fields:
            text = _as_text(getattr(self, field))
            if text:
                out[f"{PREFIX}{field}".upper()] = text
        return out

    @property
    def models_by_alias(self) -> dict[str, str]:
        """What engines call what clients may say. An alias of an alias is none."""
        return {alias.name: alias.model for alias in self.model_aliases}

    def database_url(self, context: str) -> str:
        """A context's database, on settings that name one (see `servers.resolve`)."""
        url: str | None = getattr(self, f"{context}_database_url")
        if url is None:
            raise LookupError(
                f"{PREFIX}{context.upper()}_DATABASE_URL is not set and no embedded server runs; "
                "start it with `thalweg up`"
            )
        return url

    @property
    def local_host(self) -> str:
        """Where this machine reaches the gateway, which may listen on every address."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104

    @property
    def kafka_servers(self) -> str:
        """The bootstrap servers, on settings that name them (see `servers.resolve`)."""
        if self.kafka is None:
            raise LookupError("THALWEG_KAFKA is not set and no embedded Kafka runs; `thalweg up`")
        return self.kafka

    @property
    def redis_url(self) -> str:
        """The address of Redis, on settings that name it (see `servers.resolve`)."""
        if self.redis is None:
            raise LookupError("THALWEG_REDIS is not set and no embedded Redis runs; `thalweg up`")
        return self.redis


def _as_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    return str(value)


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else "the README lists the names there are."
    return f"{name} is not a setting of Thalweg; {hint}"


def _sentence(error: Any) -> str:
    field = str(error["loc"][0]) if error["loc"] else ""
    expected = str(error["msg"]).removeprefix("Value error, ").rstrip(".")
    if not field:
        return f"{expected}."
    name = f"{PREFIX}{field}".upper()
    if field in SECRET_FIELDS or re.search("[@?#]", str(error["input"])):
        return f"{name} has a value that is not shown here (it may hold a password): {expected}."
    return f"{name} is {json.dumps(str(error['input']))}: {expected}."


def table_rows(kind: Literal["settings", "limits", "all"] = "all") -> list[tuple[str, str, str]]:
    """(variable, default, meaning) of every setting, in order; the README is held to it."""
    rows: list[tuple[str, str, str]] = []
    for field, info in Settings.model_fields.items():
        is_limit = field in Limits.model_fields
        if kind != "all" and is_limit != (kind == "limits"):
            continue
        default = {"home": ".thalweg", "cache": "~/.cache/thalweg"}.get(
            field, _as_text(info.default)
        )
        rows.append((f"{PREFIX}{field}".upper(), default, info.description or ""))
    return rows
