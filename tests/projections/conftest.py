"""Hypothesis without its deadline per example: a busy machine is no failure."""

from hypothesis import settings

settings.register_profile("thalweg", deadline=None)
settings.load_profile("thalweg")
