"""CLIP's tokens of texts.

Reference: https://github.com/openai/CLIP, commit d05afc4 (MIT), file clip/simple_tokenizer.py:
lower-case byte pairs between a start and an end, zeros after it. The vocabulary of 49,408 pieces
and the tokenizer are those that open_clip installs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

LENGTH = 77
"""Tokens that CLIP reads of a text, start and end among them."""
START, END = 49406, 49407


def texts_to_tokens(texts: Sequence[str], length: int = LENGTH) -> tuple[Tensor, list[int]]:
    """Texts to int64 [len(texts), length], and how many tokens each has.

    A text that has more is cut, and ends with the end all the same.
    """
    tokens = torch.zeros(len(texts), length, dtype=torch.int64)
    lengths = []
    for row, text in zip(tokens, texts, strict=True):
        pieces = [START, *_tokenizer().encode(text), END]
        lengths.append(len(pieces))
        if len(pieces) > length:
            pieces = [*pieces[: length - 1], END]
        row[: len(pieces)] = torch.tensor(pieces)
    return tokens, lengths


@cache
def _tokenizer() -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()
