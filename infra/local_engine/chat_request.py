"""The bodies of the routes in OpenAI's shape, with the fields that TGI reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from infra.local_engine.errors import Invalid, ToolsRefused, WrongType
from infra.local_engine.fields import JsonObject, an_object, objects, optional, required, strings
from infra.local_engine.parameters import Parameters

CANNOT_CHAT = ("response_format", "logit_bias", "frequency_penalty")


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """The body of /v1/chat/completions and /chat_tokenize."""

    model: str | None
    messages: tuple[Mapping[str, str], ...]
    parameters: Parameters
    stream: bool
    include_usage: bool
    tools: bool

    @classmethod
    def read(cls, data: JsonObject) -> ChatRequest:
        """From JSON; raises BadBody."""
        messages = tuple(
            {"role": required(message, "role", str), "content": content_of(message)}
            for message in objects(data, "messages")
        )
        options = an_object(data, "stream_options")
        return cls(
            model=optional(data, "model", str),
            messages=messages,
            parameters=openai_parameters(data, chat=True),
            stream=optional(data, "stream", bool) or False,
            include_usage=optional(options, "include_usage", bool) or False,
            tools=bool(data.get("tools")),
        )

    def refuse_tools(self) -> None:
        """Raises ToolsRefused: a tool call needs a grammar."""
        if self.tools and "response_format" in self.parameters.cannot:
            raise ToolsRefused("Grammar and tools are mutually exclusive")
        if self.tools:
            raise ToolsRefused("tools are not supported by this engine; leave `tools` out")


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """The body of /v1/completions, with one prompt."""

    model: str | None
    prompt: str
    parameters: Parameters
    stream: bool

    @classmethod
    def read(cls, data: JsonObject) -> CompletionRequest:
        """From JSON; raises BadBody, or Invalid for more than one prompt."""
        prompt = data.get("prompt")
        if isinstance(prompt, list):
            if len(prompt) != 1:
                raise Invalid("this engine takes one `prompt` a request")
            data = {**data, "prompt": prompt[0]}
        return cls(
            model=optional(data, "model", str),
            prompt=required(data, "prompt", str),
            parameters=openai_parameters(data, chat=False),
            stream=optional(data, "stream", bool) or False,
        )


def openai_parameters(data: JsonObject, *, chat: bool) -> Parameters:
    """OpenAI's names for the parameters. A temperature of 0 means the likeliest token."""
    temperature = optional(data, "temperature", float)
    shown = chat and data.get("logprobs") is True
    set_ones = tuple(name for name in CANNOT_CHAT if data.get(name))
    if data.get("logprobs") and not shown:
        set_ones += ("logprobs",)
    return Parameters(
        max_new_tokens=optional(data, "max_tokens", int),
        stop=strings(data, "stop"),
        temperature=None if temperature == 0 else temperature,
        top_p=optional(data, "top_p", float),
        seed=optional(data, "seed", int),
        top_n_tokens=optional(data, "top_logprobs", int) if shown else None,
        logprobs=shown,
        cannot=set_ones,
    )


def content_of(message: JsonObject) -> str:
    """A message's text; parts that are text are joined, as TGI does."""
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise WrongType("messages.content", content, "a string or a sequence")
    texts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text":
            raise Invalid("this engine reads parts of type `text` only")
        texts.append(required(part, "text", str))
    return "".join(texts)
