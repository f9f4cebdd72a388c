"""What the gateway reads of the projections' tables, one module a noun."""

from infra.read_models.answers import AnswersReadModel, StoredEnds
from infra.read_models.changes import HistoriesChanges
from infra.read_models.histories import HistoriesReadModel
from infra.read_models.keys import KeysReadModel
from infra.read_models.models import ReadModels
from infra.read_models.usage import UsageReadModel

__all__ = [
    "AnswersReadModel",
    "HistoriesChanges",
    "HistoriesReadModel",
    "KeysReadModel",
    "ReadModels",
    "StoredEnds",
    "UsageReadModel",
]
