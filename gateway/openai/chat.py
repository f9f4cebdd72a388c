"""Chat completions: a stateless call is one command, a conversation of its own with one answer."""

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from commands.conversations import CompleteOnce, NewMessage, complete_once
from events.conversations import EndKind
from events.ids import AnswerId, ConversationId, MessageId, derived_id
from gateway.answer_streams import AnswerRef
from gateway.answers import stream_address
from gateway.desk import Decide, Desk
from gateway.errors import Draining, Unavailable
from gateway.event_stream import EventStream, gathered
from gateway.intake import Call, call_of, read_object, validated
from gateway.openai import errors, frames
from gateway.openai.bodies import ChatBody

NOT_AGAIN = {"x-should-retry": "false"}


def routes(desk: Desk) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        caller = await desk.caller(request)
        body = await read_object(request, desk.limits)
        asked = validated(ChatBody, body)
        how = asked.checked(desk.limits)
        call = call_of(request, desk.gateway, caller, body)
        tenant = caller.tenant
        conversation = ConversationId(derived_id(tenant, call.command, "conversation"))
        answer = AnswerId(derived_id(tenant, call.command, "answer"))

        def decide(model: str) -> Decide:
            messages = tuple(
                NewMessage(
                    MessageId(derived_id(tenant, call.command, f"message:{index}")),
                    message.our_role,
                    message.text,
                )
                for index, message in enumerate(asked.messages)
            )
            command = CompleteOnce(conversation, messages, desk.ask_answer(answer, model, how))
            return lambda state: complete_once(state, command)

        receipt = await desk.ask(
            call, conversation, answer, asked.model, decide, subject=asked.user, new_stream=True
        )
        desk.join_turn(answer)
        created = int(receipt.stored_at.timestamp())
        ref = AnswerRef(answer, conversation, tenant, just_asked=not receipt.repeated)
        if not asked.stream:
            return await whole(request, ref, call, created, asked.model)
        form = frames.ChatFrames(answer, created, asked.model, include_usage=asked.include_usage)
        headers = {"location": stream_address(answer)}
        entries = desk.gateway.streams.read(ref)
        return EventStream(
            desk.open_streams,
            answer,
            entries,
            form,
            headers,
            patient=True,
            seen_end=desk.admission.ended,
        )

    async def whole(
        request: Request, ref: AnswerRef, call: Call, created: int, model: str
    ) -> Response:
        """Waits for the end. The call is accepted: a repeat without a key would be a new one."""
        headers = {"location": stream_address(ref.answer)}
        entries = desk.gateway.streams.read(ref)
        try:
            said = await gathered(
                desk.open_streams,
                request.receive,
                ref.answer,
                entries,
                seen_end=desk.admission.ended,
            )
        except (Draining, Unavailable) as error:
            again = {} if call.keyed else NOT_AGAIN
            return errors.response(error, {**headers, **again})
        if said is None:
            return Response(status_code=499)  # nobody reads it
        if said.end.kind is EndKind.FAIL:
            status, body = frames.failure(said.end)
            again = NOT_AGAIN if call.keyed else {}  # with the key the same failure comes again
            return Response(orjson.dumps(body), status, {**headers, **again}, "application/json")
        content = frames.completion(ref.answer, created, model, said)
        return Response(content, 200, headers, "application/json")

    return router
