"""Each engine says a token when asked by a client that is not ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from infra.checks.findings import Finding
from infra.engine_addresses import EngineAddress
from infra.engines.names import found_at
from infra.settings import Settings

PROBE_SECONDS_MAX = 30
"""A busy engine queues the probe."""

TODO = "Start it, or correct THALWEG_ENGINES."


def engines(settings: Settings) -> Iterator[Finding]:
    """Every engine that is named."""
    for engine in settings.engines:
        yield from _check_all(engine) if engine.is_name else [_check(engine)]


def _check_all(name: EngineAddress) -> Iterator[Finding]:
    try:
        found = asyncio.run(found_at(name))
    except (OSError, UnicodeError) as problem:
        yield Finding(f"the name {name}: {problem}", TODO)
        return
    if not found.is_whole:
        yield Finding(f"the name {name}: a host of one of its records has no address", TODO)
    for engine in found.engines:
        yield _check(engine)


def _check(engine: EngineAddress) -> Finding:
    try:
        return Finding(f"the engine {engine} {_ask(engine)}")
    except Exception as problem:
        return Finding(f"the engine {engine}: {type(problem).__name__}: {problem}", TODO)


def _ask(engine: EngineAddress) -> str:
    match engine.kind:
        case "tgi":
            return _ask_tgi(engine)
        case "openai":
            return _ask_openai(engine)


def _ask_tgi(engine: EngineAddress) -> str:
    from text_generation import Client

    answer = Client(engine.url, timeout=PROBE_SECONDS_MAX).generate("A river", max_new_tokens=1)
    return f"said {answer.generated_text!r}"


def _ask_openai(engine: EngineAddress) -> str:
    if urlsplit(engine.url).scheme not in ("http", "https"):
        raise ValueError("it should be http or https")
    request = Request(f"{engine.url}/models", headers={"Accept": "application/json"})  # noqa: S310
    with urlopen(request, timeout=PROBE_SECONDS_MAX) as response:  # noqa: S310
        names = [entry["id"] for entry in json.load(response)["data"]]
    return f"serves {', '.join(names)}"
