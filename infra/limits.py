"""Every bound of the system in one place: its unit is in its name, its reason beside it.

These are settings too (`THALWEG_` + the name in capitals), but the defaults are meant to stay.
What must hold between them is checked here, so that a start with limits that contradict each other
is refused.
"""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

JSON_GROWTH = 6  # a control character of one byte becomes \u0001: six bytes
CHUNK_LENGTH_BYTES = 4  # a chunk's length and its comma in AnswerEnded
ENVELOPE_BYTES = 16_384  # everything in AnswerEnded that is not text or lengths
RETENTION_IN_ANSWERS = 10  # readers of tokens start before the oldest open answer: DESIGN.md
UNSTORED_MARGIN_SECONDS = 60  # an end is recorded within; and so much sooner Redis forgets


class Limits(BaseModel):
    """Bounds on time, size and number."""

    model_config = ConfigDict(allow_inf_nan=False)

    # answers
    answer_seconds_max: float = Field(
        600, gt=0, description="an answer ends after this long, whatever the engine does"
    )
    answer_bytes_max: int = Field(
        131_072, gt=0, description="an answer longer than this ends with reason `length`"
    )
    answer_tokens_max: int = Field(
        16_384, gt=0, description="an answer with more tokens ends with reason `length`"
    )
    answer_tokens_default: int = Field(
        1_024, gt=0, description="budget of an answer whose request names none"
    )
    answer_logprobs_bytes_max: int = Field(
        65_536,
        ge=0,
        description="log probabilities recorded with an answer; its later tokens have none",
    )
    chunk_delay_seconds_max: float = Field(
        0.02, ge=0, description="under load tokens wait this long to share a record: 50 frames/s"
    )
    chunk_bytes_max: int = Field(
        8_192, gt=0, description="gathered tokens of this size are sent at once"
    )

    unstored_seconds_max: float = Field(
        7_200,
        gt=0,
        description="a conversation with `stored: false` can be read this long after its last "
        "activity; then its key is destroyed",
    )

    # admission
    unanswered_requests_max: int = Field(
        2_048,
        gt=0,
        description="accepted requests without an end, in all; more are told 429. "
        "Requests of the band flex come in up to half of it",
    )
    unanswered_requests_per_tenant_max: int = Field(
        512,
        gt=0,
        description="the same for one tenant (half of it for flex), so that one cannot take all "
        "the room",
    )
    repeat_seconds_max: float = Field(
        720,
        ge=0,
        description="a repeat without a key joins no older turn: official clients give up after "
        "600 s, and repeat within 120 s",
    )
    event_bytes_max: int = Field(
        950_000,
        gt=0,
        le=1_000_000,
        description="size of one event; lies below every topic's max.message.bytes",
    )
    body_bytes_max: int = Field(
        2_097_152, gt=0, description="size of a request's body: a context of 128k tokens fits"
    )

    # answering workers
    unfinished_requests_max: int = Field(
        4_096,
        gt=0,
        description="requests that a worker holds, most of them in its queue; more wait in Kafka. "
        "The last worker alive holds all, and gateways may accept some more at once than they know",
    )
    session_timeout_seconds: float = Field(
        1.5, gt=0, description="Kafka takes a worker for dead after this long without a heartbeat"
    )
    heartbeat_seconds: float = Field(
        0.4, gt=0, description="between heartbeats to Kafka: three fit into the session timeout"
    )
    rebalance_timeout_seconds: float = Field(
        5, gt=0, description="a worker that has not joined by then is left out"
    )
    claim_again_seconds: float = Field(
        3, gt=0, description="before claiming over another's claim of the same generation"
    )
    claims_without_progress_max: int = Field(
        5, gt=0, description="claims in a row without a new chunk; then the answer fails"
    )
    token_margin_seconds: float = Field(
        30, ge=0, description="token readers start this much before the oldest open request"
    )

    # engines
    engine_connect_seconds_max: float = Field(
        2, gt=0, description="to connect to an engine; then another one is tried"
    )
    engine_first_token_seconds_max: float = Field(
        60, gt=0, description="to the first token: covers a queue and a long prefill"
    )
    engine_between_tokens_seconds_max: float = Field(
        15, gt=0, description="between two tokens; a longer silence means a stuck engine"
    )
    engine_tokens_per_call_max: int = Field(
        1_024, gt=0, description="tokens asked for in one call, a longer answer takes several"
    )
    engine_requests_max: int = Field(
        32, gt=0, description="requests that an engine works on at once: its batch"
    )
    engine_requests_ahead_max: int = Field(
        4,
        ge=0,
        description="requests that may wait in an engine besides, so that its batch is never short",
    )
    engine_batch_tokens_max: int = Field(
        0,
        ge=0,
        description="tokens that an engine's batch holds (TGI's `max_batch_total_tokens`); 0: not "
        "known",
    )

    # the queue for engines
    waited_default_seconds_max: float = Field(
        15, gt=0, description="work of the band `default` that has waited so long counts as urgent"
    )
    waited_flex_seconds_max: float = Field(
        60,
        gt=0,
        description="work of the band `flex` counts as `default` after so long, and as urgent "
        "after as long again",
    )
    contended_priority_seconds_max: float = Field(
        30,
        gt=0,
        description="urgent work is told 429 after so long, while engines serve others",
    )
    contended_default_seconds_max: float = Field(
        60, gt=0, description="the same of the band `default`; `flex` waits until its deadline"
    )
    no_capacity_seconds_max: float = Field(
        120,
        gt=0,
        description="work is told 503 after so long without any engine for it: a container is back "
        "in less",
    )
    retries_share_max: float = Field(
        0.2, ge=0, le=1, description="calls that are made again, as a share of the calls"
    )

    # commands
    commands_queued_max: int = Field(
        1_024, gt=0, description="commands that wait for the writer; more are told 503"
    )
    commands_per_transaction_max: int = Field(
        128, gt=0, description="commands that share a commit: more gains nothing"
    )
    database_connections_max: int = Field(
        4, gt=0, description="connections of one process to one database"
    )

    # relay and consumers
    lease_seconds_max: float = Field(
        3, gt=0, description="a silent leader of the relay is replaced after this long"
    )
    relay_events_per_read_max: int = Field(
        500, gt=0, description="events that the relay reads at once"
    )
    projection_events_per_batch_max: int = Field(
        500, gt=0, description="events that a projection applies in one transaction"
    )
    gap_seconds_max: float = Field(
        5, gt=0, description="a missing position is waited for this long, then the stream is parked"
    )
    lag_alarm_seconds: float = Field(
        3_600, gt=0, description="how far a reader may be behind; tokens are kept that much longer"
    )
    tokens_retention_seconds: float = Field(
        0,
        ge=0,
        description="Kafka keeps tokens this long; 0: the least that is safe, ten times "
        "`ANSWER_SECONDS_MAX` plus `LAG_ALARM_SECONDS`",
    )
    redis_stream_expiry_seconds: float = Field(
        3_600,
        gt=0,
        description="live streams leave Redis this long after their end is recorded, and a "
        "minute before `UNSTORED_SECONDS_MAX` at the latest",
    )
    redis_bytes_max: int = Field(
        268_435_456,
        gt=0,
        description="memory of the embedded Redis; Kafka serves what is not there",
    )

    # sagas
    ask_again_grace_seconds: float = Field(
        30,
        gt=0,
        description="an answer that is still open this long after its deadline is asked for "
        "again: its end is seconds on its way through the log",
    )
    ask_again_seconds: float = Field(
        60, gt=0, description="before it is asked for a second time; each later wait is doubled"
    )
    ask_again_times_max: int = Field(
        6,
        gt=0,
        le=20,
        description="an answer that is asked for again this often and has no end needs a person: "
        "`thalweg doctor` and the log say so",
    )

    # gateway
    keepalive_seconds: float = Field(
        15, gt=0, description="between pings on a silent stream: proxies close after 30 to 60"
    )
    read_after_seconds_max: float = Field(
        2,
        gt=0,
        description="a read with `?after=` waits at most this long for a read model, and "
        "`thalweg keys` for the gateway",
    )
    drain_seconds_max: float = Field(
        10, gt=0, description="a process that is told to stop finishes its work for this long"
    )

    # processes
    start_seconds_max: float = Field(
        120, gt=0, description="a server or role that is not ready by then has failed to start"
    )
    stop_seconds_max: float = Field(
        15, gt=0, description="a process that is told to stop is killed after this long"
    )
    restart_delay_seconds_max: float = Field(
        10, gt=0, description="a role that keeps dying is started again at most this late"
    )
    log_bytes_max: int = Field(
        10_485_760, gt=0, description="size of a log file; then it is turned over"
    )

    @property
    def tokens_retention_seconds_min(self) -> float:
        """Less would let a reader start after an open answer's first claim."""
        return RETENTION_IN_ANSWERS * self.answer_seconds_max + self.lag_alarm_seconds

    @property
    def tokens_retention(self) -> float:
        """Seconds that `thalweg.tokens` keeps its records."""
        return self.tokens_retention_seconds or self.tokens_retention_seconds_min

    @property
    def asking_again_seconds(self) -> float:
        """From the deadline of an answer until it is asked for again for the last time."""
        waits = self.ask_again_seconds * (2.0 ** (self.ask_again_times_max - 1) - 1)
        return self.ask_again_grace_seconds + waits

    @property
    def live_expiry_seconds(self) -> float:
        """Live streams leave Redis this long after their end is recorded: before a key expires."""
        return min(
            self.redis_stream_expiry_seconds, self.unstored_seconds_max - UNSTORED_MARGIN_SECONDS
        )

    @property
    def live_open_expiry_seconds(self) -> float:
        """A live stream whose end never came leaves Redis this long after its beginning."""
        return self.unstored_seconds_max - UNSTORED_MARGIN_SECONDS

    @model_validator(mode="after")
    def _agree(self) -> Self:
        least = self.tokens_retention_seconds_min
        if 0 < self.tokens_retention_seconds < least:
            raise ValueError(
                f"THALWEG_TOKENS_RETENTION_SECONDS is {self.tokens_retention_seconds:g}: it should "
                f"be {least:g} or more (ten times THALWEG_ANSWER_SECONDS_MAX plus "
                "THALWEG_LAG_ALARM_SECONDS), or 0"
            )
        longest = self.answer_seconds_max + self.asking_again_seconds
        if longest > self.tokens_retention:
            raise ValueError(
                f"an answer may be asked for again {longest:g} s after it was asked for first, and "
                f"tokens are kept for {self.tokens_retention:g} s: lower "
                "THALWEG_ASK_AGAIN_TIMES_MAX, THALWEG_ASK_AGAIN_SECONDS or "
                "THALWEG_ASK_AGAIN_GRACE_SECONDS, or set THALWEG_TOKENS_RETENTION_SECONDS"
            )
        least = self.answer_seconds_max + 2 * UNSTORED_MARGIN_SECONDS
        if self.unstored_seconds_max < least:
            raise ValueError(
                f"THALWEG_UNSTORED_SECONDS_MAX is {self.unstored_seconds_max:g}: it should be "
                f"{least:g} or more (THALWEG_ANSWER_SECONDS_MAX and two minutes), so that an "
                "answer can be given and read"
            )
        if self.claim_again_seconds <= self.session_timeout_seconds:
            raise ValueError(
                f"THALWEG_CLAIM_AGAIN_SECONDS is {self.claim_again_seconds:g}: it should be more "
                f"than THALWEG_SESSION_TIMEOUT_SECONDS ({self.session_timeout_seconds:g})"
            )
        if self.heartbeat_seconds * 3 > self.session_timeout_seconds:
            raise ValueError(
                f"THALWEG_HEARTBEAT_SECONDS is {self.heartbeat_seconds:g}: it should be at most a "
                f"third of THALWEG_SESSION_TIMEOUT_SECONDS ({self.session_timeout_seconds:g})"
            )
        if self.unanswered_requests_per_tenant_max > self.unanswered_requests_max:
            raise ValueError(
                "THALWEG_UNANSWERED_REQUESTS_PER_TENANT_MAX is "
                f"{self.unanswered_requests_per_tenant_max}: it should be at most "
                f"THALWEG_UNANSWERED_REQUESTS_MAX ({self.unanswered_requests_max})"
            )
        if self.unfinished_requests_max < self.unanswered_requests_max:
            raise ValueError(
                f"THALWEG_UNFINISHED_REQUESTS_MAX is {self.unfinished_requests_max}: it should be "
                f"at least THALWEG_UNANSWERED_REQUESTS_MAX ({self.unanswered_requests_max}), so "
                "that no flood hides others' requests behind it in Kafka"
            )
        if self.answer_tokens_default > self.answer_tokens_max:
            raise ValueError(
                f"THALWEG_ANSWER_TOKENS_DEFAULT is {self.answer_tokens_default}: it should be at "
                f"most THALWEG_ANSWER_TOKENS_MAX ({self.answer_tokens_max})"
            )
        ended = (
            JSON_GROWTH * self.answer_bytes_max
            + CHUNK_LENGTH_BYTES * self.answer_tokens_max
            + self.answer_logprobs_bytes_max
            + ENVELOPE_BYTES
        )
        if self.event_bytes_max < ended:
            raise ValueError(
                f"THALWEG_EVENT_BYTES_MAX is {self.event_bytes_max}: it should be {ended} or more, "
                "so that an answer of THALWEG_ANSWER_BYTES_MAX can be recorded"
            )
        return self
