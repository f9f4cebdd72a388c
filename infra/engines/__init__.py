"""Inference servers behind `processors.answers.engine.Engine`: one adapter a protocol.

A further protocol is an adapter (its events as a `stream.Reading`, what it writes and reads in a
`_wire` of its own, its figures in `metrics`), a name in `infra.addresses.ENGINE_KINDS`, and a case
in each function here and in `infra.checks.engines`.
"""

from collections.abc import Sequence

from infra.engine_addresses import EngineAddress
from infra.engines.http import Timers
from infra.engines.openai import OpenAiEngine
from infra.engines.tgi import TgiEngine
from infra.limits import Limits
from processors.answers.engine import Engine


def open_engine(address: EngineAddress, limits: Limits) -> Engine:
    """The adapter for the protocol that the address names. It connects when it is first used."""
    timers = Timers(
        connect_seconds_max=limits.engine_connect_seconds_max,
        first_token_seconds_max=limits.engine_first_token_seconds_max,
        between_tokens_seconds_max=limits.engine_between_tokens_seconds_max,
    )
    match address.kind:
        case "tgi":
            tokens_max = limits.engine_tokens_per_call_max
            return TgiEngine(address.url, timers, tokens_per_call_max=tokens_max)
        case "openai":
            return OpenAiEngine(address.url, timers)


def open_engines(addresses: Sequence[EngineAddress], limits: Limits) -> tuple[Engine, ...]:
    """One adapter an address, in their order. Names are not among them: `infra.engines.names`."""
    return tuple(open_engine(address, limits) for address in addresses if not address.is_name)


def provider_of(engine: Engine | None) -> str:
    """For labels of metrics, the protocol that it speaks: whose model it is, nobody says."""
    match engine:
        case TgiEngine():
            return "tgi"
        case OpenAiEngine():
            return "openai"
        case _:
            return "_OTHER"
