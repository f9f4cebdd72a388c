"""The answering worker's outside: a thin Faust app, the token log, the event store."""
