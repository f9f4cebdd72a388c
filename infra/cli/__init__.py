"""The command line. Every verb imports its work when it is called: `--help` is quick."""
