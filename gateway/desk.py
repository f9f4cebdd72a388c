"""Takes calls that ask for answers: admits them, submits them once, and answers repeats alike."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from uuid import UUID

from fastapi import Request

from commands.conversations import AskAnswer, Conversation
from commands.errors import AnswerInProgress, StoreUnavailable
from commands.store import Receipt
from events import trace
from events.conversations import Band, Sampling
from events.envelope import Event, Meta
from events.ids import AnswerId, ConversationId
from gateway.admission import AdmissionControl
from gateway.errors import AnswerExpired, Declined, NotFound, PerhapsAccepted
from gateway.fleet.errors import NoModelKnown, UnknownModel
from gateway.intake import Body, Call, call_of, id_in_path, read_object, validated
from gateway.keys import KeyRing
from gateway.meter import Followed
from gateway.open_streams import OpenStreams
from gateway.parts import Gateway
from gateway.ports import AnswerRow, Caller
from gateway.repeats import Repeats

log = logging.getLogger("thalweg.gateway")

TURNS_KEPT_MAX = 10_000
"""Answers whose stream may be fetched by a request of its own: its first reader joins the turn."""

Decide = Callable[[Conversation], list[Event]]
Shown = Callable[[UUID], bool]


def nothing_shown(answer: UUID) -> bool:
    return False


class Desk:
    """What the routes of one gateway share."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.limits = gateway.limits
        self.open_streams = OpenStreams(gateway.limits)
        self._keys = KeyRing(gateway.keys, gateway.limits)
        self.admission = AdmissionControl(gateway.admission, gateway.limits, gateway.fleet)
        self.followed = Followed(gateway.meter, self.admission.ended)
        self._turns: OrderedDict[UUID, str] = OrderedDict()
        self.repeats = Repeats(gateway.turns, gateway.limits)

    async def caller(self, request: Request) -> Caller:
        """Who calls. Raises InvalidKey."""
        return await self._keys.caller(request.headers.get("authorization"))

    async def about_conversation(
        self, request: Request, kind: type[Body]
    ) -> tuple[Call, ConversationId, Body]:
        """A call about the conversation in its address, and its body. Raises Declined."""
        caller = await self.caller(request)
        conversation = ConversationId(id_in_path(request, "conversation"))
        body = await read_object(request, self.limits)
        asked = validated(kind, body)
        return call_of(request, self.gateway, caller, body), conversation, asked

    async def ask(
        self,
        call: Call,
        stream: UUID,
        answer: UUID,
        model: str | None,
        decide: Callable[[str], Decide],
        *,
        subject: str | None,
        shown: Shown = nothing_shown,
        new_stream: bool = False,
        band: Band = Band.DEFAULT,
    ) -> Receipt:
        """Submits a command that asks for `answer`, if there is room and the model is known.

        `decide` gets the model's name. A repeat of a stored command gets its receipt whatever has
        changed since, and a declared repeat that of the turn that it joins. For `shown` see
        `submit`. Raises Declined and Refused.
        """
        began_at = time.monotonic()
        if call.attempt is not None and call.attempt.number > 0:
            await self.repeats.flush()  # what was delivered a moment ago is not to be joined
        try:
            chosen = await self._chosen(model)
            self.admission.expect(call.caller.tenant, chosen, band, call.deadline_seconds)
            await self.admission.admit(call.caller.tenant, answer, band)
        except Declined:
            stored = await self._stored(call)
            if stored is not None:
                return stored
            raise
        request, began = trace.current.get(), trace.now_ns()
        try:
            receipt = await self.submit(
                call, stream, decide(chosen), subject=subject, shown=shown, new_stream=new_stream
            )
        except BaseException as error:
            trace.stage("commit command", request, began, failed=type(error).__name__)
            self.admission.ended(answer)
            raise
        if not receipt.repeated:
            self._begin_turn(answer, request)
            self.followed.asked(answer, chosen, began_at)
        trace.stage("commit command", trace.current.get(), began)
        log.info(
            "an answer was asked for",
            extra={
                "answer": str(answer),
                "conversation": str(stream),
                "repeated": receipt.repeated,
                "joined": receipt.joined,
            },
        )
        if receipt.repeated:
            self.admission.ended(answer)
        else:
            self.admission.stored(answer)
            if call.attempt is not None:
                self.repeats.begun()
        return receipt

    async def submit(
        self,
        call: Call,
        stream: UUID,
        decide: Decide,
        *,
        subject: str | None = None,
        shown: Shown = nothing_shown,
        new_stream: bool = False,
    ) -> Receipt:
        """Submits any command. `subject` is whose data it is; if nobody is named it is the
        stream's, and that of a new one the key's owner's.

        `shown` says of an answer that is in the command's way whether the client may have seen its
        end: an end is shown a moment before it is recorded, and that moment is waited for.
        """
        meta = Meta(
            tenant=call.caller.tenant,
            command=call.command,
            actor=str(call.caller.key),
            subject=subject or call.caller.owner,
            time=self.gateway.now(),
            correlation=self.gateway.new_id(),
            traceparent=trace.current.get(),
        )
        try:
            return await self._after_the_end(
                shown,
                lambda: self.gateway.conversations.submit(
                    stream,
                    decide,
                    meta,
                    call.asked,
                    new_stream=new_stream,
                    keyed=call.keyed,
                    attempt=call.attempt,
                    subject_of_stream=subject is None,
                ),
            )
        except StoreUnavailable as error:
            if error.maybe_stored and not call.keyed:
                raise PerhapsAccepted from error
            raise

    def _begin_turn(self, answer: UUID, request: str | None) -> None:
        """What follows in this request belongs to the turn, which outlives it."""
        if not trace.is_told(request):
            return
        turn = trace.turn_of(request)
        trace.current.set(turn)
        self._turns[answer] = turn
        while len(self._turns) > TURNS_KEPT_MAX:
            self._turns.popitem(last=False)

    async def readable(self, caller: Caller, answer: UUID) -> AnswerRow:
        """An answer that the caller may read now. Raises NotFound, AnswerExpired.

        The sources of its stream do not ask: a live stream or the log may have its words still.
        """
        row = await self.gateway.answers.find_answer(answer)
        if row is None or row.tenant != caller.tenant or row.gone:
            raise NotFound(f"answer {answer}")
        if row.expired:
            raise AnswerExpired(answer)
        return row

    def join_turn(self, answer: UUID) -> None:
        """The stream of an answer that was asked for here belongs to its turn's trace."""
        self.followed.begins(answer)
        if answer in self._turns:
            trace.current.set(self._turns.pop(answer))

    def ask_answer(
        self,
        call: Call,
        answer: AnswerId,
        model: str,
        sampling: Sampling,
        band: Band = Band.DEFAULT,
    ) -> AskAnswer:
        return AskAnswer(
            answer=answer,
            model=model,
            band=band,
            deadline_seconds=call.deadline_seconds,
            sampling=sampling,
        )

    async def _after_the_end(
        self, shown: Shown, submit: Callable[[], Awaitable[Receipt]]
    ) -> Receipt:
        until = time.monotonic() + self.limits.end_recorded_seconds_max
        pause = self.limits.end_recorded_poll_seconds
        while True:
            try:
                return await submit()
            except AnswerInProgress as refused:
                if not shown(refused.answer) or time.monotonic() > until:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, self.limits.end_recorded_poll_seconds_max)

    async def _stored(self, call: Call) -> Receipt | None:
        if call.attempt is not None and call.attempt.number > 0:
            return await self.gateway.turns.join(call.command, call.attempt)
        if not call.keyed:
            return None
        return await self.gateway.receipts.receipt(call.caller.tenant, call.command, call.asked)

    async def _chosen(self, model: str | None) -> str:
        models = self.gateway.models
        if model is None:
            served = await models.ids()
            if not served:
                raise NoModelKnown
            return served[0]
        if not await models.may_serve(model):
            raise UnknownModel(model)
        return model
