"""Checks the Hugging Face form of the demo model against answers given by another form.

Reads a JSON array of {"question", "answer"} and writes a JSON array of what differs: empty, if
`transformers` would greedily say the same. A few are generated in earnest; for the others each
token is compared with the likeliest one after what stands before it, which comes to the same and
is quicker. Runs in the environment of requirements/train.txt:

    .venv-train/bin/python demo_model/check_hf.py < answers.json
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

MODEL = Path(__file__).parent / "hf"
GENERATED = 3  # in earnest, token by token
ANSWER_TOKENS_MAX = 600


def main() -> int:
    """Compares; the exit status is 0 also when something differs, which the output tells."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    different = []
    for index, pair in enumerate(json.load(sys.stdin)):
        messages = [{"role": "user", "content": pair["question"]}]
        prompt = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        answer = tokenizer(pair["answer"], add_special_tokens=False)["input_ids"]
        expected = [*answer, tokenizer.eos_token_id]
        with torch.inference_mode():
            if index < GENERATED:
                whole = model.generate(prompt, max_new_tokens=ANSWER_TOKENS_MAX, do_sample=False)
                said = whole[0, prompt.shape[1] :].tolist()
            else:
                tokens = torch.cat([prompt, torch.tensor([answer])], dim=1)
                logits = model(tokens).logits[0, prompt.shape[1] - 1 :]
                said = logits.argmax(-1).tolist()
        if said != expected:
            different.append({"question": pair["question"], "said": tokenizer.decode(said)})
    json.dump(different, sys.stdout, ensure_ascii=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
