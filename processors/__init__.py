"""Stream processors: do the slow work that events ask for."""
