"""Chat completions: a stateless call is one command, a conversation of its own with one answer."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from commands.conversations import CompleteOnce, NewMessage, complete_once
from events.conversations import EndKind, Sampling
from events.ids import AnswerId, ConversationId, MessageId, derived_id
from gateway.again import NOT_AGAIN
from gateway.answer_streams import AnswerRef
from gateway.answers import stream_address
from gateway.delivery import Watched
from gateway.desk import Decide, Desk
from gateway.errors import Draining, Unavailable
from gateway.event_stream import EventStream, gathered
from gateway.intake import Call, call_of, read_object, validated
from gateway.openai import errors, frames
from gateway.openai.bodies import ChatBody
from gateway.repeats import with_attempt


@dataclass(frozen=True, slots=True)
class Ids:
    """They derive from the command, so that each send of one turn has the same."""

    tenant: UUID
    command: str

    @property
    def conversation(self) -> ConversationId:
        return ConversationId(derived_id(self.tenant, self.command, "conversation"))

    @property
    def answer(self) -> AnswerId:
        return AnswerId(derived_id(self.tenant, self.command, "answer"))

    def message(self, index: int) -> MessageId:
        return MessageId(derived_id(self.tenant, self.command, f"message:{index}"))


def routes(desk: Desk) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        caller = await desk.caller(request)
        body = await read_object(request, desk.limits)
        asked = validated(ChatBody, body)
        how = asked.checked(desk.limits)
        call = with_attempt(request, call_of(request, desk.gateway, caller, body), body)
        ids = Ids(caller.tenant, call.command)
        receipt = await desk.ask(
            call,
            ids.conversation,
            ids.answer,
            asked.model,
            lambda model: completing(desk, call, ids, asked, model, how),
            subject=asked.user,
            new_stream=True,
            band=asked.band,
        )
        desk.join_turn(ids.answer)
        if receipt.joined is not None:
            ids = Ids(caller.tenant, receipt.joined)
        if receipt.repeated:  # of long ago, perhaps
            await desk.readable(caller, ids.answer)
        head = frames.Head(ids.answer, int(receipt.stored_at.timestamp()), asked.model, asked.band)
        ref = AnswerRef(ids.answer, ids.conversation, ids.tenant, not receipt.repeated)
        if asked.stream:
            return streamed(ref, head, call, ids, asked)
        return await whole(request, ref, head, call, ids)

    def streamed(
        ref: AnswerRef, head: frames.Head, call: Call, ids: Ids, asked: ChatBody
    ) -> Response:
        stream = EventStream(
            desk.open_streams,
            ref.answer,
            desk.gateway.streams.read(ref),
            frames.ChatFrames(head, include_usage=asked.include_usage),
            {"location": stream_address(ref.answer)},
            patient=True,
            followed=desk.followed,
            before_failure=None if call.keyed else lambda: settle(ids),
        )
        return stream if call.keyed else watched(stream, ids, lambda: stream.whole)

    async def whole(
        request: Request, ref: AnswerRef, head: frames.Head, call: Call, ids: Ids
    ) -> Response:
        """Waits for the end. Whoever sends the call again gets the same turn."""
        headers = {"location": stream_address(ref.answer)}
        try:
            said = await gathered(
                desk.open_streams,
                request.receive,
                ref.answer,
                desk.gateway.streams.read(ref),
                followed=desk.followed,
            )
        except (Draining, Unavailable) as error:
            return errors.response(error, headers)
        if said is None:
            return Response(status_code=499)  # nobody reads it
        if said.end.kind is EndKind.FAIL:
            status, body = frames.failure(said.end)
            headers |= frames.AGAIN_AFTER_FAILURE.get(said.end.reason, {})
            if call.keyed:  # the same failure would come again
                headers |= NOT_AGAIN
            else:
                await settle(ids)
            return Response(orjson.dumps(body), status, headers, "application/json")
        content = orjson.dumps(frames.completion(head, said))
        response = Response(content, 200, headers, "application/json")
        return response if call.keyed else watched(response, ids, lambda: True)

    async def settle(ids: Ids) -> None:
        """A repeat of what failed is a new turn."""
        await desk.repeats.settle((ids.tenant, ids.command))

    def watched(response: Response, ids: Ids, complete: Callable[[], bool]) -> Response:
        turn = ids.tenant, ids.command
        return Watched(response, whole=complete, then=lambda: desk.repeats.delivered(turn))

    return router


def completing(
    desk: Desk, call: Call, ids: Ids, asked: ChatBody, model: str, how: Sampling
) -> Decide:
    messages = tuple(
        NewMessage(ids.message(index), message.our_role, message.text)
        for index, message in enumerate(asked.messages)
    )
    command = CompleteOnce(
        ids.conversation,
        messages,
        desk.ask_answer(call, ids.answer, model, how, asked.band),
        metadata=asked.metadata,
        stored=asked.store,
    )
    return lambda state: complete_once(state, command)
