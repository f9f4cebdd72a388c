"""Makes the demo model: trains it, writes its Hugging Face form and, from that, CTranslate2's.

Runs in an environment of its own (requirements/train.txt) on the CPU, for a few minutes:

    .venv-train/bin/python demo_model/make_model.py

The seed is fixed; another processor or number of threads may still round differently.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import sys
import time
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from ctranslate2.converters import TransformersConverter
from dataset import FOLDER, Conversation, Teacher
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from vocabulary import check_continuations, make_tokenizer, save

NAME = "thalweg-demo"
SEED = 20261124
THREADS = 2  # sums are rounded in another order with another number
STEPS = 900
WARMUP_STEPS = 40
LEARNING_RATE = 3e-3
POSITIONS_MAX = 4096
IGNORED = -100  # torch's mark for tokens that are read but not learned
# What one step sees: so many conversations of so many turns (short ones teach the answers, the
# long ones teach that what was said before does not matter).
SHAPES = ((48, 1), (48, 1), (16, 3), (48, 1), (24, 2), (3, 18))


class Encoder:
    """Turns conversations into tokens and targets, by the same marks as the chat template."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._mark = {name: tokenizer.token_to_id(name) for name in tokenizer.get_vocab()}

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode(self, conversation: Conversation) -> tuple[list[int], list[int]]:
        """Tokens, and for each the one that shall follow; only the answers are learned."""
        mark = self._mark
        tokens, targets = [mark["<s>"]], [IGNORED]
        if conversation.system is not None:
            part = [mark["<|system|>"], *self._ids(conversation.system), mark["<|end|>"]]
            tokens += part
            targets += [IGNORED] * len(part)
        for turn in conversation.turns:
            part = [mark["<|user|>"], *self._ids(turn.user), mark["<|end|>"]]
            answer = self._ids(turn.assistant)
            tokens += [*part, mark["<|assistant|>"], *answer, mark["<|end|>"]]
            targets += [*[IGNORED] * len(part), *answer, mark["</s>"], IGNORED]
        return tokens, targets

    def batch(self, conversations: list[Conversation]) -> tuple[torch.Tensor, torch.Tensor]:
        """Two tensors [conversations, longest], filled up on the right."""
        pairs = [self.encode(conversation) for conversation in conversations]
        longest = max(len(tokens) for tokens, _ in pairs)
        tokens = [row + [0] * (longest - len(row)) for row, _ in pairs]
        targets = [row + [IGNORED] * (longest - len(row)) for _, row in pairs]
        return torch.tensor(tokens), torch.tensor(targets)


def new_model(tokenizer: Tokenizer) -> LlamaForCausalLM:
    """An untrained Llama of about one and a half million parameters."""
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=POSITIONS_MAX,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.token_to_id("<s>"),
        eos_token_id=tokenizer.token_to_id("</s>"),
        pad_token_id=None,
    )
    return LlamaForCausalLM(config)


def learning_rate(step: int, steps: int) -> float:
    """Rises for a while, then falls along a cosine to a hundredth."""
    if step < WARMUP_STEPS:
        return LEARNING_RATE * (step + 1) / WARMUP_STEPS
    done = (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS)
    return LEARNING_RATE * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def train(model: LlamaForCausalLM, encoder: Encoder, teacher: Teacher, steps: int) -> None:
    """Learns in place; prints the loss now and then."""
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    model.train()
    began = time.monotonic()
    for step in range(steps):
        rows, turns = SHAPES[step % len(SHAPES)]
        tokens, targets = encoder.batch([teacher.conversation(turns) for _ in range(rows)])
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state
        learned = targets != IGNORED
        loss = cross_entropy(model.lm_head(hidden[learned]), targets[learned])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0 or step == steps - 1:
            seconds = time.monotonic() - began
            say(f"step {step:5d}  loss {loss.item():.5f}  {seconds:6.1f} s")
    model.eval()


def write_hugging_face(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """The form that `transformers` and Text Generation Inference load, weights in float16."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model.generation_config.do_sample = False
    model.half().save_pretrained(folder)
    save(tokenizer, folder)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "name_or_path": NAME,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "model_max_length": POSITIONS_MAX,
        "clean_up_tokenization_spaces": False,
        "chat_template": (FOLDER / "chat_template.jinja").read_text("utf-8").rstrip("\n"),
    }
    text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
    (folder / "tokenizer_config.json").write_text(text, "utf-8")
    AutoTokenizer.from_pretrained(folder)  # refuses what it cannot read


def write_ctranslate2(source: Path, folder: Path) -> None:
    """The form that the local engine runs, with what it needs for prompts beside the weights."""
    TransformersConverter(
        str(source),
        copy_files=["tokenizer.json", "tokenizer_config.json", "generation_config.json"],
    ).convert(str(folder), quantization="float16", force=True)


def say(line: str) -> None:
    """Progress, for the person who waits."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Makes both forms; a run of few steps (`--steps`) is for trying the recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    teacher = Teacher(random.Random(SEED))  # noqa: S311 - a reproducible choice, not a secret
    tokenizer = make_tokenizer(teacher.texts())
    check_continuations(tokenizer, teacher.answers())
    model = new_model(tokenizer)
    say(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    train(model, Encoder(tokenizer), teacher, arguments.steps)
    write_hugging_face(model, tokenizer, arguments.out / "hf")
    write_ctranslate2(arguments.out / "hf", arguments.out / "ct2")
    return 0


if __name__ == "__main__":
    sys.exit(main())
