"""The bounds of the front door. Those that have a setting get their value from the wiring."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from events.conversations import Band


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    # commands
    body_bytes_max: int = 2_097_152  # a context of 128k tokens fits
    body_seconds_max: float = 30  # a client that sends slower holds a connection for nothing
    messages_max: int = 1_000  # one event each in one transaction
    answer_tokens_max: int = 16_384
    answer_tokens_default: int = 1_024  # budget of an answer whose request names none
    answer_seconds_max: float = 600  # the deadline that an answer is asked for with

    # a post to an answer whose end was shown and is being recorded
    end_recorded_seconds_max: float = 5  # a restart of the recorder fits in; then it is a conflict
    end_recorded_poll_seconds: float = 0.02  # recording takes some 5 ms; twice as long each time
    end_recorded_poll_seconds_max: float = 0.5  # so that an answer that goes on costs few reads

    # admission
    unanswered_requests_max: int = 2_048  # in all; more are told 429
    unanswered_requests_per_tenant_max: int = 512  # one tenant can't take all the room
    admission_refresh_seconds: float = 0.25  # how old the counts get while requests come in
    admission_stale_seconds_max: float = 2  # after silence, the next request waits for new counts
    contended_seconds_max: Mapping[Band, float] = field(default_factory=dict)
    """A worker gives up what has waited so long while others are served: what would wait longer is
    refused at once. A band that is not there waits until its deadline."""
    no_capacity_seconds_max: float = 120  # no engine for so long: more would be given up as well
    retry_after_seconds: float = 1  # what a refused client is told: an answer takes about that

    # keys
    key_cache_seconds: float = 5  # a revoked key works at most this long on each gateway
    key_cache_entries_max: int = 10_000  # about 3 MB; the oldest makes room

    # streams
    send_seconds_max: float = 30  # a peer that takes no byte for so long is gone
    reconnect_seconds: float = 1  # what an EventSource is told to wait before it comes again
    keepalive_seconds: float = 15  # between signs of life of a silent reading of the log
    drain_seconds_max: float = 10  # OpenAI streams may finish for so long after SIGTERM

    # readings of the log
    log_readers_max: int = 16  # open at once; each asks Postgres some times a second
    log_readers_per_tenant_max: int = 4  # so that one tenant's followers leave room to others
    log_events_max: int = 1_000_000  # of one reading; then it says where to go on
    log_bytes_max: int = 1_073_741_824  # the same: what a client may have to store of one response
    log_seconds_max: float = 60  # the same, for one that finds little in a long log
    log_follow_seconds_max: float = 3_600  # the same, for one that follows: it comes again
    log_events_per_step: int = 500  # asked of the store at once
    log_events_per_write: int = 50  # encoded without a break; then the loop's others get a turn
    log_follow_poll_seconds: float = 0.2  # a NOTIFY would wake each follower at every commit

    # reads
    read_after_seconds_max: float = 2  # a read model lags by 50 ms; then it is 503
    page_bytes_max: int = 1_048_576  # of texts in a page of messages; one longer text fits alone

    # declared repeats
    settle_delay_seconds: float = 0.1  # deliveries of so long are told together: 10 statements/s
    settled_turns_max: int = 4_096  # deliveries not told yet, while the store is away: 1 MB
    turns_sweep_seconds: float = 30  # between looks for turns that are too old to be joined

    # stored completions
    completion_ended_seconds_max: float = 2  # a read that follows its answer waits for the record
    completions_page_bytes_max: int = 4_194_304  # of answers; then a page ends before its limit
