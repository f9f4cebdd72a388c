"""A model in CTranslate2's form with its tokenizer and chat template.

Made for small models: a request that samples gets a generator of its own (4 ms for the demo model),
because CTranslate2 takes a seed only for the random numbers of new threads.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import ctranslate2
import jinja2
import numpy
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Encoding, Tokenizer

from infra.local_engine import limits
from infra.local_engine.errors import TemplateFailed
from infra.local_engine.generation import Generation, Start
from infra.local_engine.parameters import Parameters
from infra.local_engine.text import Likely, Speech

# CTranslate2 seeds a thread's random numbers when it first draws one, from a number of the process.
seeding = threading.Lock()


class Model:
    """Loads `folder`; `close` it when no generation runs any more."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
        self.name = str(settings.get("name_or_path") or folder.resolve().name)
        self._bos, self._end = settings["bos_token"], settings["eos_token"]
        added = self.tokenizer.get_added_tokens_decoder().values()
        self._special = frozenset(token.content for token in added if token.special)
        self._template = compiled(settings["chat_template"])
        self._generator = self._new_generator(limits.streams_at_once_max)
        self.executor = ThreadPoolExecutor(limits.streams_at_once_max, "generation")
        self._warm_up()

    def close(self) -> None:
        """Frees the threads and the weights; generations must have been cancelled before."""
        self.executor.shutdown(wait=True, cancel_futures=True)
        # Without this, the library's threads outlive the interpreter and abort the process.
        self._generator.unload_model()
        del self._generator

    def encode(self, text: str, *, bos: bool) -> Encoding:
        """The text's tokens, with the mark of a beginning or without."""
        return self.tokenizer.encode(text, add_special_tokens=bos)

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt for these messages. Raises TemplateFailed.

        As TGI does it: when the last message is the assistant's, the rendering is cut off after
        the last place where its trimmed text stands (which may be the wrong one if it is short).
        """
        try:
            text = self._template.render(
                messages=messages,
                bos_token=self._bos,
                eos_token=self._end,
                add_generation_prompt=True,
            )
        except jinja2.TemplateError as error:
            raise TemplateFailed(f"syntax error: {error.message} (in <string>:1)") from error
        if messages and messages[-1]["role"] == "assistant":
            said = messages[-1]["content"].strip()
            place = text.rfind(said)
            if place >= 0:
                text = text[: place + len(said)]
        return text

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated tokens, without special ones."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def generation(
        self, prompt: Encoding, parameters: Parameters, *, tokens_max: int, seed: int | None
    ) -> Generation:
        """A generation that has not started yet. `seed` belongs to requests that sample."""
        options = {
            "max_length": tokens_max,
            "include_prompt_in_result": False,
            "return_scores": True,
            "end_token": [self._end],
            "repetition_penalty": parameters.repetition_penalty or 1.0,
        }
        if parameters.samples:
            options["sampling_topk"] = parameters.top_k or 0  # 0: all of them
            options["sampling_topp"] = parameters.top_p or 1.0
            options["sampling_temperature"] = parameters.temperature or 1.0
        tokens = prompt.tokens[-parameters.truncate :] if parameters.truncate else prompt.tokens
        speech = Speech(
            special=self._special, end=self._end, tokens_max=tokens_max, stop=parameters.stop
        )
        likeliest = None
        if count := parameters.top_n_tokens:
            options["return_logits_vocab"] = True
            likeliest = partial(self._likeliest, speech, count)
        return Generation(self._start(tokens, options, seed), speech, likeliest)

    def _likeliest(self, speech: Speech, count: int, logits: Any) -> tuple[Likely, ...]:
        """The tokens with the greatest logits of one step; log probabilities are those without a
        temperature, as the chosen token's."""
        scores = numpy.array(logits, dtype=numpy.float64).ravel()
        scores -= numpy.logaddexp.reduce(scores)
        best = numpy.argpartition(-scores, count)[:count]
        return tuple(
            speech.likely(number, self.tokenizer.id_to_token(number) or "", float(scores[number]))
            for number in sorted(best.tolist(), key=lambda each: -scores[each])
        )

    def scores(self, prompt: Encoding) -> list[float | None]:
        """The log probability of each token of a prompt; there is none for the first. Blocks."""
        return [None, *self._generator.score_batch([prompt.tokens])[0].log_probs]

    def _start(self, tokens: list[str], options: dict[str, Any], seed: int | None) -> Start:
        def shared(callback: Callable[[Any], bool]) -> None:
            self._generator.generate_batch([tokens], callback=callback, **options)

        if seed is None:
            return shared
        number = seed % 2**32

        def seeded(callback: Callable[[Any], bool]) -> None:
            with seeding:
                ctranslate2.set_random_seed(number)
                generator = self._new_generator(1)
                # Its thread draws a number now, so it takes the seed while the lock is held.
                generator.generate_batch([tokens], **{**options, "max_length": 1})
            generator.generate_batch([tokens], callback=callback, **options)

        return seeded

    def _new_generator(self, threads: int) -> Any:
        return ctranslate2.Generator(
            str(self._folder),
            device="cpu",
            compute_type="float32",
            inter_threads=threads,
            intra_threads=max(1, min(2, os.cpu_count() or 1) // threads),
        )

    def _warm_up(self) -> None:
        """Each of the library's threads is slow the first time (36 ms): let nobody wait for it."""
        prompt = [self._bos] * 8
        results = [
            self._generator.generate_batch([prompt], max_length=2, asynchronous=True)[0]
            for _ in range(2 * limits.streams_at_once_max)
        ]
        for result in results:
            result.result()


def compiled(source: str) -> jinja2.Template:
    """A chat template with what the templates of Hugging Face expect to find."""

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(source)
