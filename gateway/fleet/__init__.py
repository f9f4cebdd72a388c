"""The fleet as workers report it: what a gateway expects of it, and what it shows of it."""
