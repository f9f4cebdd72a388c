"""The published language: what has happened. Pure; imports nothing of ours."""
