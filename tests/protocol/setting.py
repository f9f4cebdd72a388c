"""What an exploration of the workers' world is about."""

from collections.abc import Callable
from dataclasses import dataclass

from events.answers import Fold, TokenRecord
from events.answers import fold as real_fold

FAULTS: frozenset[str] = frozenset(
    {
        "crash",  # a worker loses everything, and starts again
        "move",  # the partition goes to the other worker
        "give back",  # a rebalance that changes no owner
        "reset",  # the group's generation starts again at lower numbers
        "produce",  # a worker's producer reports a failure; what was under way may land late
        "wake",  # a timer fires although a worker has not heard of the last rebalance
        "engine",  # an engine breaks
        "repeat",  # a record stands in the log twice
        "cancel",
        "expire",
        "redeliver",  # the request stands in its topic twice, the second time after the end
    }
)
BEYOND_KAFKA: frozenset[str] = frozenset({"lose"})
"""A record that Kafka had taken is lost, and nobody is told: no setting of ours allows it."""


@dataclass(frozen=True)
class Setting:
    """The work, the faults that may happen, and (for rules that are taken out) the world's own."""

    chunks: int = 2
    faults: int = 2
    kinds: frozenset[str] = FAULTS
    call_tokens_max: int = 99
    """An engine gives no more a call."""
    poisonous: bool = False
    """Whoever has claimed and speaks dies."""
    claims_without_progress_max: int = 12
    """So high that the faults cannot reach it: reaching it means a duel."""
    log_records_max: int = 40
    """No trace writes so much, unless it has no end."""
    claims_max: int = 99
    """More claims than this in one log are a waste."""
    fold: Callable[[Fold, TokenRecord], Fold] = real_fold
    prune: bool = True
    """Leave away what can never count (log_model.py)."""
    acknowledge_on_delivery: bool = False
    fold_from_end: bool = False
