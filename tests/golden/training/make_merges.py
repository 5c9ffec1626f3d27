#!/usr/bin/env python3
"""Makes merges.json: a text, the pattern that cuts it into words, and the merges that Hugging Face tokenizers learns.

The 256 bytes are the trainer's special tokens, in their order, so that both number them alike and settle equal counts
alike. tests/unit/test_tokenizer_bpe.c compares.

    python3 -m pip install tokenizers==0.23.3
    python3 make_merges.py
"""
import json
import pathlib
import random

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

VOCABULARY = 600
PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}[\p{L}\p{M}]*+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
SYLLABLES = "ex per t rou ter ga te to ken s lo ad ba lan ce ü ber ß é cou che ル ー タ は 専 門 家 ро у тер ा र".split()
BETWEEN = [" "] * 12 + ["\n", "  ", "\r\n\t", ", ", ".\n", " == ", "'s ", " 1024 ", "_", "-"]


def made_text():
    draw = random.Random(11)
    words = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 4))) for _ in range(160)]
    return "".join(draw.choice(words) + draw.choice(BETWEEN) for _ in range(1200))


def letters_of_bytes():
    """GPT-2's letters: printable bytes stand for themselves, the others for letters from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte if byte in printable else 256 + others.index(byte)) for byte in range(256)}


def main():
    letters, text = letters_of_bytes(), made_text()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, min_frequency=2, show_progress=False, special_tokens=[letters[i] for i in range(256)]
    )
    tokenizer.train_from_iterator([text], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    ids = model["vocab"]
    merges = [[ids[left], ids[right], ids[left + right]] for left, right in model["merges"]]
    golden = {"pattern": PATTERN, "text": text, "merges": merges}
    (pathlib.Path(__file__).parent / "merges.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
