"""The names of the Kafka topics, and which event goes where.

`prefix` is "thalweg" in every installation; tests use one of their own.
"""

from dataclasses import dataclass

from events.conversations import AnswerAskedAgain, AnswerCancelRequested, AnswerRequested, Band
from events.envelope import Event


@dataclass(frozen=True, slots=True)
class Topics:
    prefix: str = "thalweg"

    def domain(self, context: str) -> str:
        """Domain events of a context, kept for ever."""
        return f"{self.prefix}.{context}"

    def work(self, band: Band) -> str:
        """Answers asked for, once or again, and cancels."""
        return f"{self.prefix}.answers.{band.value}"

    @property
    def all_work(self) -> tuple[str, ...]:
        return tuple(self.work(band) for band in Band)

    @property
    def tokens(self) -> str:
        """What the models say."""
        return f"{self.prefix}.tokens"

    @property
    def workers(self) -> str:
        """What answering workers say to each other, and to gateways."""
        return f"{self.prefix}.workers"

    @property
    def decisions(self) -> str:
        """What workers have decided about answers, and what they knew then."""
        return f"{self.prefix}.decisions"

    @property
    def answers_group(self) -> str:
        """The consumer group of the answering workers."""
        return f"{self.prefix}.answers"

    @property
    def recorder_group(self) -> str:
        """The consumer group of the recorders."""
        return f"{self.prefix}.recorder"

    @property
    def sagas_group(self) -> str:
        """The consumer group of the sagas."""
        return f"{self.prefix}.sagas"

    def routes(self, event: Event) -> tuple[str, ...]:
        """Every topic that the relay sends `event` to; the domain topic comes first."""
        domain = self.domain(event.context())
        if isinstance(event, AnswerRequested | AnswerAskedAgain):
            return domain, self.work(event.band)
        if isinstance(event, AnswerCancelRequested):
            return domain, self.work(Band.PRIORITY)
        return (domain,)
