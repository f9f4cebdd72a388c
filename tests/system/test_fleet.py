"""A whole installation with two engines, of a model each: who is refused, when, and that nothing is
written of it; what models are called; and engines that are not there yet, or no more."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import openai
import pytest

from infra.servers.ports import free_port
from tests.fixtures.numbered_process import NumberedEngine
from tests.fixtures.processes import wait_for
from tests.fixtures.thalweg import RunningThalweg
from tests.system.conftest import client

FIRST, SECOND = "numbered", "org/second"
ALIASES = {"gpt-4o": FIRST, "small": SECOND, "nobodys": "org/third"}
PLACES = 2
"""Calls that an engine takes at once."""
FLOOD, FLOODING = 24, "tokens=40 delay_ms=50"
"""Requests of two seconds each: some 24 s of work for two places, long after all were posted."""
WAIT_SECONDS = (5.0, 100.0)
"""The estimate when the test asks: more than its deadline, less than a client would not wait."""
DEADLINE = {"X-Request-Timeout": "3"}
AWAY_SECONDS_MAX = 3.0


class Fleet:
    """The installation; the second engine comes when it is told to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.first = NumberedEngine(folder)
        self.second: NumberedEngine | None = None
        self.had_second = False
        engines = (self.first.address, f"127.0.0.1:{self._port}")
        self.thalweg = RunningThalweg(
            folder / "home",
            engines=",".join(f"tgi+http://{one}" for one in engines),
            THALWEG_MODEL_ALIASES=",".join(f"{name}={model}" for name, model in ALIASES.items()),
            THALWEG_ENGINE_REQUESTS_MAX=str(PLACES),
            THALWEG_ENGINE_REQUESTS_AHEAD_MAX="0",
            THALWEG_NO_CAPACITY_SECONDS_MAX=str(AWAY_SECONDS_MAX),
        )

    def with_second(self) -> NumberedEngine:
        """The second engine, which is served from then on."""
        if self.second is None:
            engine = NumberedEngine(self._folder, "--model", SECOND, port=self._port)
            self.second, self.had_second = engine.listens(), True
        wait_for(lambda: SECOND in self.models(), "the second model")
        return self.second

    def stop_second(self) -> None:
        assert self.second is not None
        self.second.stop()
        self.second = None

    def stop(self) -> None:
        self.thalweg.stop()
        for engine in (self.first, self.second):
            if engine is not None:
                engine.stop()

    def models(self) -> list[str]:
        with client(self.thalweg) as http:
            return [one["id"] for one in http.get("/v1/models").json()["data"]]

    def written(self) -> Counter[str]:
        """Events by kind, and records by topic, once all that was asked for has ended."""
        return wait_for(self._written, "every answer's end", seconds_max=240)[0]

    def _written(self) -> tuple[Counter[str]] | None:
        out = self._folder / f"{uuid4()}.ndjson"
        exported = self.thalweg.cli("export", "--out", str(out))
        assert exported.returncode == 0, exported.stderr
        kinds = (json.loads(line)["type"] for line in out.read_text().splitlines())
        events = Counter(kind.rpartition(".")[2] for kind in kinds)
        topics = json.loads(self.thalweg.cli("topics", "--json").stdout)
        records = Counter({one["topic"]: one["records"] for one in topics})
        if events["answer_requested"] != events["answer_ended"]:
            return None
        if records["thalweg.conversations"] != events.total():
            return None  # the relay is on its way
        work = [records[f"thalweg.answers.{band}"] for band in ("priority", "default", "flex")]
        assert work == [0, events["answer_requested"], 0]
        return (events,)  # it may be empty


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = Fleet(tmp_path_factory.mktemp("fleet"))
    try:
        made.thalweg.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def untouched(fleet: Fleet, tmp_path: Path) -> Iterator[Fleet]:
    """One where no engine of the second model was ever there: another one, if tests came before."""
    if not fleet.had_second:
        yield fleet
        return
    made = Fleet(tmp_path)
    try:
        made.thalweg.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def http(fleet: Fleet) -> Iterator[httpx2.Client]:
    with client(fleet.thalweg) as of_first_key:
        yield of_first_key


def asked(written: Counter[str]) -> int:
    """How many requests were accepted, by each of the events that stand for one."""
    found = {written[kind] for kind in ("message_posted", "answer_requested", "answer_ended")}
    (number,) = found
    return number


def asking(model: str, content: str = "tokens=3") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": content}]}


def chat(http: httpx2.Client, model: str, **headers: str) -> httpx2.Response:
    return http.post("/v1/chat/completions", json=asking(model), headers=headers)


def test_a_model_of_an_engine_that_has_not_come_yet_is_no_404_but_unavailable(
    untouched: Fleet,
) -> None:
    assert untouched.models() == [FIRST, "gpt-4o"]
    with client(untouched.thalweg) as http:
        for model in (SECOND, "small", "org/third"):  # which may be one of that engine's
            refused = chat(http, model)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_engine")
            looked_up = http.get(f"/v1/models/{model}")
            assert (looked_up.status_code, looked_up.headers["retry-after"]) == (503, "1")
        untouched.with_second()
        assert untouched.models() == [FIRST, SECOND, "gpt-4o", "small"]

        def answered() -> bool:
            status = chat(http, SECOND).status_code
            assert status in (200, 503)
            return status == 200

        wait_for(answered, "the workers to find it")
        assert chat(http, "small").status_code == 200
        assert chat(http, "org/third").status_code == 404


def test_each_model_and_alias_is_answered_by_its_engine_and_others_are_not_found(
    fleet: Fleet,
) -> None:
    second = fleet.with_second()
    with openai.OpenAI(base_url=f"{fleet.thalweg.url}/v1", api_key=fleet.thalweg.api_key) as sdk:
        for model, engine in (
            *((FIRST, fleet.first), ("gpt-4o", fleet.first)),
            *((SECOND, second), ("small", second)),
        ):
            before = [one.calls().get("generations", 0) for one in (fleet.first, second)]
            said = sdk.chat.completions.create(**asking(model))
            assert (said.model, said.choices[0].message.content) == (model, " 0 1 2")
            after = [one.calls().get("generations", 0) for one in (fleet.first, second)]
            called = [one is engine for one in (fleet.first, second)]
            assert [late - early for early, late in zip(before, after, strict=True)] == called
            assert sdk.models.retrieve(model).id == model
        written = fleet.written()
        for model in ("nobodys", "org/third", "GPT-4o", "unheard of"):
            with pytest.raises(openai.NotFoundError) as refused:
                sdk.chat.completions.create(**asking(model))
            assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
            assert model in refused.value.message
            with pytest.raises(openai.NotFoundError):
                sdk.models.retrieve(model)
        assert fleet.written() == written


def started(http: httpx2.Client) -> str:
    return str(http.post("/api/conversations", json={}).json()["conversation"])


def post(
    http: httpx2.Client, conversation: str, model: str, content: str = "tokens=3", **headers: str
) -> httpx2.Response:
    body = {"content": content, "parent": None, "model": model}
    return http.post(f"/api/conversations/{conversation}/messages", json=body, headers=headers)


def refused_twice(http: httpx2.Client, model: str, status: int, code: str) -> list[httpx2.Response]:
    """On both faces, each in its own terms; and what may be sent again says so."""
    completion = chat(http, model, **DEADLINE)
    assert completion.json()["error"]["code"] == code
    message = post(http, started(http), model, **DEADLINE)
    assert message.headers["content-type"] == "application/problem+json"
    assert message.json()["code"] == code
    for refused in (completion, message):
        assert refused.status_code == status
        assert int(refused.headers["retry-after"]) > 0
        assert float(refused.headers["retry-after-ms"]) > 0
        assert refused.headers.get("x-should-retry", "true") == "true"
    return [completion, message]


def expected(http: httpx2.Client) -> float:
    """How long a request would wait now; 0: nobody knows."""
    waits = http.get("/api/fleet").json()["waits"]
    mine = [one for one in waits if (one["model"], one["band"]) == (FIRST, "default")]
    return float(mine[0]["wait_seconds"] or 0) if mine else 0.0


def is_taken(answered: httpx2.Response) -> bool:
    """It was no refusal: whether all was said by the deadline is a matter of the machine."""
    return answered.status_code == 200 or answered.json()["error"]["code"] == "deadline"


def test_a_saturated_fleet_refuses_before_anything_is_written_and_takes_the_same_later(
    fleet: Fleet, http: httpx2.Client
) -> None:
    fleet.with_second()
    before = fleet.written()
    for _ in range(FLOOD):
        posted = post(http, started(http), FIRST, FLOODING)
        assert posted.status_code == 202, posted.text
    wait_for(lambda: WAIT_SECONDS[0] < expected(http) < WAIT_SECONDS[1], "an estimate")
    completion, message = refused_twice(http, FIRST, 429, "fleet_contended")
    assert completion.json()["error"]["type"] == "rate_limit_error"
    assert message.json()["wait_seconds"] > float(DEADLINE["X-Request-Timeout"])
    assert is_taken(chat(http, SECOND, **DEADLINE)), "its engine is idle"
    after = fleet.written()
    assert asked(after - before) == FLOOD + 1
    assert is_taken(chat(http, FIRST, **DEADLINE))
    assert post(http, started(http), FIRST, **DEADLINE).status_code == 202
    assert asked(fleet.written() - after) == 2


def test_without_an_engine_for_long_a_request_is_refused_before_anything_is_written(
    fleet: Fleet, http: httpx2.Client
) -> None:
    fleet.with_second()
    wait_for(lambda: chat(http, SECOND).status_code == 200, "the workers to trust the engine")
    fleet.stop_second()
    waited = chat(http, SECOND)  # it is accepted, and waits for as long as one may
    assert (waited.status_code, waited.json()["error"]["code"]) == (503, "no_engine")

    def is_out() -> bool:
        engines = http.get("/api/fleet").json()["engines"]
        return any((one["out_seconds"] or 0) > AWAY_SECONDS_MAX for one in engines)

    wait_for(is_out, "the workers to say so", seconds_max=120)  # one of them has no call there
    before = fleet.written()
    refused_twice(http, SECOND, 503, "no_engine")
    assert chat(http, FIRST).status_code == 200
    after = fleet.written()
    assert asked(after - before) == 1
    fleet.with_second()
    wait_for(lambda: chat(http, SECOND, **DEADLINE).status_code == 200, "the engine to be trusted")
