"""Answering: a worker that claims, speaks and ends; a recorder that follows the tokens.

*One request.* `worker` takes it; `waiting` has it wait, for its partition's fold and then for an
engine; `holding` runs its state machine (`protocol`, `protocol_words`) with what all share
(`surroundings`). `calls` makes its calls, and what they say becomes `chunks` (`text`, `pace`).
Which tokens are read is up to `following` and `tails`. `stages` and `standstill` only watch.

*All requests and all engines.* `dispatch` has the queue on an event loop, `fleet` the engines,
which are asked for `figures`, `sharing` this worker's part of them. What they do is decided in
`scheduling`, which is pure, and told by `decisions` (why), `meter` (how often) and `reports` (how
it is now).

*The recorder.* `recorder`, with its folds, ports and stages.

What is needed of the outside: `ports`, `engine`, `meter`, `recorder_ports`.
"""
