"""Models on OpenAI's face: which are listed, which are not found, and which may come yet."""

import httpx2

from tests.gateway.fakes import MODEL, Bench
from tests.gateway.test_chat import chat


async def test_an_unknown_model_is_not_found(http: httpx2.AsyncClient) -> None:
    answered = await chat(http, model="gpt-9")
    error = answered.json()["error"]
    assert (answered.status_code, error["code"], error["param"]) == (
        404, "model_not_found", "model"
    )  # fmt: skip


async def test_a_model_of_an_engine_that_is_starting_may_be_asked_for(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    bench.models.is_complete = False
    assert (await chat(http, model="gpt-9")).status_code == 200
    looked_up = await http.get("/v1/models/gpt-9")
    assert (looked_up.status_code, looked_up.json()["error"]["code"]) == (503, "no_model_known")
    assert looked_up.headers["retry-after"]
    bench.models.served = None
    assert (await http.get("/v1/models/gpt-9")).status_code == 503


async def test_models_are_listed(http: httpx2.AsyncClient) -> None:
    listed = (await http.get("/v1/models")).json()
    assert [one["id"] for one in listed["data"]] == [MODEL, "org/other"]
    assert (await http.get("/v1/models/org/other")).json() == listed["data"][1]
    assert (await http.get("/v1/models/none")).json()["error"]["code"] == "model_not_found"
