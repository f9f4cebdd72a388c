"""Where engines are, and which other names clients may say for what they serve, as settings."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from infra import addresses


class EngineAddress(BaseModel):
    """Where an inference server listens and which protocol it speaks."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["tgi", "openai"]
    """One of `ENGINE_KINDS`."""
    url: str

    @classmethod
    def parse(cls, text: str) -> EngineAddress:
        """`tgi+http://host:port` or `openai+http://host:port/v1`; https too, and dns or srv for a
        name."""
        kind, url = addresses.check_engine(text.strip())
        return cls.model_validate({"kind": kind, "url": url})

    def __str__(self) -> str:
        return f"{self.kind}+{self.url}"

    @property
    def is_name(self) -> bool:
        """Engines are at all places that DNS gives for it, by http."""
        return self.url.startswith(("dns://", "srv://"))

    @property
    def has_services(self) -> bool:
        """It is a name with SRV records, which say hosts and ports."""
        return self.url.startswith("srv://")

    @property
    def host_and_port(self) -> tuple[str, int]:
        """Of a name; the port is 0 if its SRV records say ports."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 0

    def at(self, ip: str, port: int) -> EngineAddress:
        """The engine at one address of a name."""
        host = f"[{ip}]" if ":" in ip else ip
        url = urlsplit(self.url)._replace(scheme="http", netloc=f"{host}:{port}").geturl()
        return EngineAddress(kind=self.kind, url=url)


class ModelAlias(BaseModel):
    """A name that clients may say for a model that engines serve."""

    model_config = ConfigDict(frozen=True)

    name: str
    model: str

    @classmethod
    def parse(cls, text: str) -> ModelAlias:
        """`name=model`."""
        name, equals, model = (part.strip() for part in text.partition("="))
        if not (name and equals and model):
            raise ValueError(f"{text.strip()!r} should look like name=model")
        return cls(name=name, model=model)

    def __str__(self) -> str:
        return f"{self.name}={self.model}"
