"""The outside world: adapters to vendors, the wiring, the command line and the embedded servers."""
