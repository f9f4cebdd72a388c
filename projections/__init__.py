"""The read side: folds events into tables. A read model has no migrations, it has versions."""
