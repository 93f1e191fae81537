# SPDX-License-Identifier: Apache-2.0
"""Text as a sequence of tokens for language models, read from plain files; a small text that needs no file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

UNKNOWN = "<unk>"


@dataclass(frozen=True)
class TextData:
    """A text as token numbers, split in order: the end is held out.

    train, held_out: int64 [length]. vocabulary: the token of each number.
    """

    train: Tensor
    held_out: Tensor
    vocabulary: tuple[str, ...]


def read_characters(path: str | Path, held_out: float = 0.1) -> TextData:
    """One token per character of a UTF-8 file; the last part `held_out` of it is held out.

    Raises: OSError; ValueError for an empty file, one that is not UTF-8, or a part outside (0, 1).
    """
    return characters(read_utf8(path), held_out)


def characters(text: str, held_out: float = 0.1) -> TextData:
    """One token per character, numbered in the order of the characters. Raises: ValueError."""
    return _split(list(text), sorted(set(text)), held_out)


def read_words(path: str | Path, vocabulary_size: int, held_out: float = 0.1) -> TextData:
    """One token per word between white space, a line's end counting as "<eos>".

    Words beyond the `vocabulary_size` - 1 most frequent become "<unk>".

    Raises: OSError; ValueError for an empty file, one that is not UTF-8, or arguments out of range.
    """
    if vocabulary_size < 2:
        raise ValueError(f"read_words: vocabulary_size must be at least 2; got {vocabulary_size}")
    tokens = [token for line in read_utf8(path).splitlines() for token in (*line.split(), "<eos>")]
    counts: dict[str, int] = {}
    for token in tokens:
        if token != UNKNOWN:
            counts[token] = counts.get(token, 0) + 1
    frequent = sorted(counts, key=lambda token: (-counts[token], token))[: vocabulary_size - 1]
    known = set(frequent)
    return _split([token if token in known else UNKNOWN for token in tokens], [*frequent, UNKNOWN], held_out)


def sample_text(sentences: int = 2000, seed: int = 0) -> str:
    """Sentences of a small grammar, the same for a seed: something to learn on a machine without text files."""
    parts = (
        ("the", "a", "every", "no"),
        ("small", "red", "quick", "old", "quiet"),
        ("bird", "fox", "river", "engine", "letter"),
        ("sees", "follows", "loses", "finds", "keeps"),
        ("the", "a", "one", "that"),
        ("stone", "garden", "number", "answer", "road"),
    )
    draw = torch.Generator().manual_seed(seed)
    lines = []
    for _ in range(sentences):
        words = [part[int(torch.randint(len(part), (), generator=draw))] for part in parts]
        lines.append(" ".join(words))
    return ".\n".join(lines) + ".\n"


def windows(tokens: Tensor, length: int, batch: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random stretches of a text: (inputs, targets), both int64 [batch, length], targets one token further on.

    Raises: ValueError when the text has no more than `length` tokens.
    """
    if len(tokens) <= length:
        raise ValueError(f"windows: the text must have more than {length} tokens; got {len(tokens)}")
    starts = torch.randint(len(tokens) - length, (batch, 1), generator=draw)
    places = starts + torch.arange(length)
    return tokens[places], tokens[places + 1]


def read_utf8(path: str | Path) -> str:
    """The text of a file. Raises: OSError; ValueError where it is not UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: must be UTF-8 text; {error}; convert it first") from error


def _split(tokens: list[str], vocabulary: list[str], held_out: float) -> TextData:
    if not 0.0 < held_out < 1.0:
        raise ValueError(f"text: held_out must be between 0 and 1; got {held_out}")
    if len(tokens) < 2:
        raise ValueError(f"text: needs at least 2 tokens; got {len(tokens)}")
    number = {token: i for i, token in enumerate(vocabulary)}
    numbers = torch.tensor([number[token] for token in tokens])
    cut = max(1, round(len(numbers) * (1 - held_out)))
    return TextData(numbers[:cut], numbers[cut:], tuple(vocabulary))
