"""The role `answers`: a thin Faust app, the token log and the event store around the worker."""

from infra.answers_worker.role import run_answers

__all__ = ["run_answers"]
