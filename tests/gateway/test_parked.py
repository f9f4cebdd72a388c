"""What is told of conversations whose newest events could not be applied to the read models."""

import httpx2

from events import conversations as said
from tests.gateway.fakes import Bench
from tests.gateway.test_conversations import post, started
from tests.gateway.test_histories import got, told


async def test_a_read_of_a_parked_stream_says_so_at_once(
    http: httpx2.AsyncClient, bench: Bench
) -> None:
    conversation = await started(http)
    await got(http, f"/api/conversations/{conversation}")
    bench.histories.parked.add(bench.all_events()[0].stream)
    receipt = (await post(http, conversation)).json()["receipt"]
    shown = await got(http, f"/api/conversations/{conversation}", after=receipt)
    assert (shown["parked"], shown["messages"]) == (True, 0)
    page = await got(http, "/api/conversations", after=receipt)
    assert page["parked"]
    assert page["data"][0]["parked"]
    assert (await got(http, f"/api/conversations/{conversation}/messages"))["parked"]
    assert not (await got(http, "/api/conversations", user="ann"))["parked"]


async def test_a_conversation_whose_beginning_is_parked_says_so_to_its_tenant_only(
    http: httpx2.AsyncClient, stranger: httpx2.AsyncClient, bench: Bench
) -> None:
    one, gone, unstored = told(), told(), told(stored=False)
    gone.about(said.ConversationDeleted)
    for each in (one, gone, unstored):
        bench.histories.parked.add(each.id)
        await bench.tell(each)
    for path in (f"/api/conversations/{one.id}", f"/api/conversations/{one.id}/messages"):
        parked = await http.get(path, params={"after": f"{one.id}:1"})
        assert (parked.status_code, parked.json()["code"]) == (503, "conversation_parked")
        assert parked.json()["parked"]
    for caller, id_ in ((stranger, one.id), (http, gone.id), (http, unstored.id)):
        answered = await caller.get(f"/api/conversations/{id_}", params={"after": f"{id_}:1"})
        assert answered.json()["code"] == "conversation_not_found"
