"""Each engine says a token when asked by a client that is not ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from infra.checks.findings import Finding
from infra.settings import EngineAddress, Settings

PROBE_SECONDS_MAX = 30
"""A busy engine queues the probe."""


def engines(settings: Settings) -> Iterator[Finding]:
    """Every engine that is named."""
    for engine in settings.engines:
        try:
            said = _ask_tgi(engine) if engine.kind == "tgi" else _ask_openai(engine)
            yield Finding(f"the engine {engine} {said}")
        except Exception as problem:
            todo = "Start it, or correct THALWEG_ENGINES."
            yield Finding(f"the engine {engine}: {type(problem).__name__}: {problem}", todo)


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
