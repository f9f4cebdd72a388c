"""The demo model's tokenizer: byte-level BPE that splits a text's beginning as it splits the text.

The pre-tokenizer looks at no neighbour beyond the word, so that (said text + rest) has the same
tokens as (said text) followed by (rest) at every boundary between tokens: an answer can be
continued from what was said, and greedily it goes on in the same words. `make_model` checks this
for every answer. Any text can be written in it, byte by byte if need be.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SPECIAL = ["<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"]
VOCABULARY_SIZE = 3072
# One word with the space before it, one digit, or one sign: never a run that the next text extends.
WORD = r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]|\s"


def make_tokenizer(texts: list[str]) -> Tokenizer:
    """Trains on `texts`; encoding puts `<s>` in front, as Llama's tokenizers do."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    bos = ("<s>", tokenizer.token_to_id("<s>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[bos]
    )
    return tokenizer


def check_continuations(tokenizer: Tokenizer, answers: list[str]) -> None:
    """Raises if any answer, cut between two tokens, would be split differently when read again."""
    for answer in answers:
        ids = tokenizer.encode(answer, add_special_tokens=False).ids
        for cut in range(1, len(ids)):
            said = tokenizer.decode(ids[:cut])
            if "�" in said:
                continue  # half a character: nobody continues from there
            again = tokenizer.encode(said, add_special_tokens=False).ids
            if again != ids[:cut]:
                raise UnstableBoundary(answer, said)


class UnstableBoundary(Exception):
    """A cut answer has other tokens than it was said in: change VOCABULARY_SIZE or the data."""

    def __init__(self, answer: str, said: str) -> None:
        super().__init__(f"{answer[:40]!r}...: cut after {said[-20:]!r} it has other tokens.")


def token_names(tokenizer: Tokenizer) -> list[str]:
    """All tokens in the order of their ids."""
    return [tokenizer.id_to_token(number) for number in range(tokenizer.get_vocab_size())]


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes `tokenizer.json`."""
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
