"""What the engine refuses, one class a case, with the status and the name that TGI gives it."""

from __future__ import annotations


class EngineError(Exception):
    """A request failed in a way that TGI's wire has words for."""

    status = 500
    error_type = "generation"

    def body(self) -> dict[str, object]:
        """The JSON body, or the data of an event when the stream has begun."""
        return {"error": str(self), "error_type": self.error_type}


class Overloaded(EngineError):
    """As many requests as are allowed are already here. Ask another engine, or later."""

    status = 429
    error_type = "overloaded"

    def __init__(self) -> None:
        super().__init__("Model is overloaded")


class Invalid(EngineError):
    """A parameter has a value that is not allowed, or that this engine's library cannot do."""

    status = 422
    error_type = "validation"

    def __init__(self, reason: str) -> None:
        super().__init__(f"Input validation error: {reason}")


class GenerationFailed(EngineError):
    """The model itself failed."""

    status = 424
    error_type = "generation"

    def __init__(self, reason: str) -> None:
        super().__init__(f"Request failed during generation: Server error: {reason}")


class TemplateFailed(EngineError):
    """The chat template refuses these messages."""

    status = 422
    error_type = "template_error"

    def __init__(self, reason: str) -> None:
        super().__init__(f"Template error: {reason}")


class ToolsRefused(EngineError):
    """Tools need grammars, which the engine's library does not have."""

    status = 422
    error_type = "tool_error"

    def __init__(self, reason: str) -> None:
        super().__init__(f"Tool error: {reason}")


class Unhealthy(EngineError):
    """The last generation failed, and so did a trial of one token."""

    status = 503
    error_type = "healthcheck"

    def __init__(self) -> None:
        super().__init__("unhealthy")


class BadBody(Exception):
    """The body cannot be read as what the route expects: TGI says so in plain text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class WrongType(BadBody):
    """The JSON is well formed, but a field has another type than expected."""

    def __init__(self, field: str, found: object, expected: str) -> None:
        where = f"{field}: " if field else ""
        super().__init__(
            422,
            "Failed to deserialize the JSON body into the target type: "
            f"{where}invalid type: {named(found)}, expected {expected}",
        )


class MissingField(BadBody):
    """The JSON lacks a field that has no default."""

    def __init__(self, field: str) -> None:
        super().__init__(
            422,
            f"Failed to deserialize the JSON body into the target type: missing field `{field}`",
        )


def named(value: object) -> str:
    """A JSON value in the words of TGI's JSON reader."""
    match value:
        case None:
            return "null"
        case bool():
            return f"boolean `{str(value).lower()}`"
        case int():
            return f"integer `{value}`"
        case float():
            return f"floating point `{value}`"
        case str():
            return f'string "{value[:60]}"'
        case list():
            return "sequence"
        case _:
            return "map"
