"""Faults that need more than a signal: each module makes functions that a case can name."""
