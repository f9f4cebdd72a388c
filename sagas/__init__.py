"""Process managers: events in, commands and timers out. Pure; infra/sagas/ runs them."""
