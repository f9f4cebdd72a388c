"""Answering: a worker that claims, speaks and ends; a recorder that follows the tokens."""
