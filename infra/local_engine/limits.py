"""The local engine's bounds. Those that TGI has too carry TGI's defaults."""

concurrent_requests_max = 128  # refused above it, without waiting, as TGI's router does
streams_at_once_max = 4  # generations that run side by side; the rest wait in the order they came
input_tokens_max = 4095
total_tokens_max = 4096  # input and answer together: the positions that the demo model has
new_tokens_default = 100  # on the generate routes, as in TGI
stop_sequences_max = 4
top_n_tokens_max = 5
body_bytes_max = 2_000_000
keep_alive_seconds = 15.0  # silence on a stream before a comment line is sent, as in TGI
drain_seconds_max = 30.0  # for open streams, after SIGTERM
idle_connection_seconds_max = 75.0  # a connection between two requests
