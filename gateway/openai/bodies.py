"""The body of a chat completion: what is taken. Anything else is refused by its name.

A parameter that is null counts as absent, whether it is supported or not: clients send such.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from events.conversations import Band, Role, Sampling
from gateway.described import Metadata
from gateway.errors import InvalidRequest
from gateway.limits import GatewayLimits
from gateway.sampling import (
    MaxTokens,
    Penalty,
    Seed,
    Stop,
    Subject,
    Temperature,
    TopLogprobs,
    TopP,
    sampling,
)

BAND_OF_TIER = {
    "auto": Band.DEFAULT,
    "default": Band.DEFAULT,
    "flex": Band.FLEX,
    "priority": Band.PRIORITY,
}


class Lenient(BaseModel):
    """Refuses what it does not know, except for a null."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: one for name, one in value.items() if one is not None}


class TextPart(Lenient):
    type: Literal["text"]
    text: str


class ChatMessage(Lenient):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def our_role(self) -> Role:
        return Role.SYSTEM if self.role == "developer" else Role(self.role)

    @property
    def text(self) -> str:
        """Parts follow each other as they are."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class StreamOptions(Lenient):
    include_usage: bool = False


class UpdateBody(BaseModel):
    """The metadata that replaces what there was; null for none."""

    model_config = ConfigDict(extra="forbid", strict=True)

    metadata: Metadata | None


class ChatBody(Lenient):
    model: str = Field(min_length=1)
    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: MaxTokens | None = None
    max_completion_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    seed: Seed | None = None
    stop: Stop = Field(default=(), strict=False)
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logprobs: bool = False
    top_logprobs: TopLogprobs | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    service_tier: Literal["auto", "default", "flex", "priority"] = "auto"
    metadata: Metadata = Field(default_factory=dict)
    store: bool = True
    """Kept, listed and found later; unlike at OpenAI that is so unless the client says no."""
    user: Subject | None = None
    n: Annotated[int, Field(ge=1, le=1)] = 1

    @property
    def band(self) -> Band:
        return BAND_OF_TIER[self.service_tier]

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def checked(self, limits: GatewayLimits) -> Sampling:
        """How the answer is to be given. Raises InvalidRequest for what contradicts itself."""
        if len(self.messages) > limits.messages_max:
            raise InvalidRequest(
                f"messages: there are {len(self.messages)}; send at most {limits.messages_max}",
                "messages",
            )
        if self.messages[-1].role == "assistant":
            raise InvalidRequest(
                "messages: the last one is the assistant's, which is not supported; "
                "end with a message to be answered",
                "messages",
            )
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest(
                "stream_options: only for a stream; set `stream` or leave it out", "stream_options"
            )
        named = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(named) > 1:
            raise InvalidRequest(
                "max_tokens and max_completion_tokens differ; send one of them", "max_tokens"
            )
        return sampling(
            limits,
            max_tokens=self.max_completion_tokens or self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stop=self.stop,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            logprobs=self.logprobs,
            top_logprobs=self.top_logprobs,
            param="max_tokens" if self.max_tokens else "max_completion_tokens",
        )
