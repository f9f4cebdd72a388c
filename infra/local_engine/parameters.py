"""What a request asks of the model: read from JSON, then checked in TGI's words.

Reading raises BadBody (before a stream begins); checking raises Invalid (an event, if the answer
is streamed), because that is where TGI does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from infra.local_engine import limits
from infra.local_engine.errors import Invalid
from infra.local_engine.fields import an_object, optional, required, strings

# Parameters of TGI that CTranslate2 has nothing for. Each is refused when set to anything else.
CANNOT: Mapping[str, object] = {
    "frequency_penalty": None,
    "typical_p": None,
    "grammar": None,
    "adapter_id": None,
    "watermark": False,
}


@dataclass(frozen=True, slots=True)
class Parameters:
    """One generation's parameters; None is "not said"."""

    max_new_tokens: int | None = None
    stop: tuple[str, ...] = ()
    do_sample: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    truncate: int | None = None
    best_of: int | None = None
    top_n_tokens: int | None = None
    return_full_text: bool | None = None
    details: bool = False
    decoder_input_details: bool = False
    logprobs: bool = False
    """On the chat route: each token's log probability is shown."""
    cannot: tuple[str, ...] = ()

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn at random, rather than the likeliest taken."""
        chosen = (self.temperature, self.top_k, self.top_p)
        return self.do_sample or any(value is not None for value in chosen)

    def check(self, *, streamed: bool) -> None:
        """Raises Invalid for the first thing that is not allowed."""
        for allowed, reason in (
            (self.best_of in (None, 1), refusal_of_best_of(streamed)),
            (
                not (streamed and self.decoder_input_details),
                "`decoder_input_details` == true is not supported when streaming tokens",
            ),
            (
                self.temperature is None or self.temperature > 0,
                "`temperature` must be strictly positive",
            ),
            (
                self.repetition_penalty is None or self.repetition_penalty > 0,
                "`repetition_penalty` must be strictly positive",
            ),
            (self.top_k is None or self.top_k > 0, "`top_k` must be strictly positive"),
            (self.top_p is None or 0 < self.top_p < 1, "`top_p` must be > 0.0 and < 1.0"),
            (self.max_new_tokens != 0, "`max_new_tokens` must be strictly positive"),
            (
                len(self.stop) <= limits.stop_sequences_max,
                f"`stop` supports up to {limits.stop_sequences_max} stop sequences."
                f" Given: {len(self.stop)}",
            ),
            (
                self.truncate is None or 0 < self.truncate <= limits.input_tokens_max,
                f"`truncate` must be strictly positive and less than {limits.input_tokens_max}."
                f" Given: {self.truncate}",
            ),
            (
                (self.top_n_tokens or 0) <= limits.top_n_tokens_max,
                f"`top_n_tokens` must be >= 0 and <= {limits.top_n_tokens_max}."
                f" Given: {self.top_n_tokens}",
            ),
            (not self.cannot, f"`{next(iter(self.cannot), '')}` is not supported by this engine"),
        ):
            if not allowed:
                raise Invalid(reason)


def refusal_of_best_of(streamed: bool) -> str:
    """TGI has two reasons; that it is not to be had here at all is the second one's."""
    if streamed:
        return "`best_of` != 1 is not supported when streaming tokens"
    return "`best_of` != 1 is not allowed for this endpoint"


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """The body of the generate routes."""

    inputs: str
    parameters: Parameters
    stream: bool

    @classmethod
    def read(cls, data: Mapping[str, object]) -> GenerateRequest:
        """From JSON; raises BadBody."""
        given = an_object(data, "parameters")
        inputs = required(data, "inputs", str)
        where = "parameters."
        parameters = Parameters(
            max_new_tokens=optional(given, "max_new_tokens", int, where)
            if "max_new_tokens" in given
            else limits.new_tokens_default,
            stop=strings(given, "stop", where),
            do_sample=optional(given, "do_sample", bool, where) or False,
            temperature=optional(given, "temperature", float, where),
            top_k=optional(given, "top_k", int, where),
            top_p=optional(given, "top_p", float, where),
            repetition_penalty=optional(given, "repetition_penalty", float, where),
            seed=optional(given, "seed", int, where),
            truncate=optional(given, "truncate", int, where),
            best_of=optional(given, "best_of", int, where),
            top_n_tokens=optional(given, "top_n_tokens", int, where),
            return_full_text=optional(given, "return_full_text", bool, where),
            details=optional(given, "details", bool, where) or False,
            decoder_input_details=optional(given, "decoder_input_details", bool, where) or False,
            cannot=cannot_of(given),
        )
        return cls(inputs, parameters, optional(data, "stream", bool) or False)


def cannot_of(given: Mapping[str, object]) -> tuple[str, ...]:
    """The names of what was asked for and is not to be had here."""
    return tuple(
        name for name, idle in CANNOT.items() if given.get(name) is not None and given[name] != idle
    )
