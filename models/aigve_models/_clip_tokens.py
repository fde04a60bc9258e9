"""CLIP's tokens of the ten texts that Light-VQA+ needs.

Reference: https://github.com/openai/CLIP, commit d05afc4 (MIT), file clip/simple_tokenizer.py:
lower-case byte pairs between a start and an end, zeros after it. Its vocabulary of 49,408 pieces is
not here; a tokenizer with the signature of ``texts_to_tokens`` may stand in this file's place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LENGTH = 77
START, END = 49406, 49407

TOKENS: dict[str, tuple[int, ...]] = {
    "an underexposed photo": (550, 21675, 87, 5206, 1125),
    "a slightly underexposed photo": (320, 8456, 21675, 87, 5206, 1125),
    "a well-exposed photo": (320, 1123, 268, 12180, 1125),
    "a slightly overexposed photo": (320, 8456, 8649, 13002, 5206, 1125),
    "an overexposed photo": (550, 8649, 13002, 5206, 1125),
    "a photo with no noise": (320, 1125, 593, 871, 9307),
    "a photo with little noise": (320, 1125, 593, 1274, 9307),
    "a photo with considerable noise": (320, 1125, 593, 38256, 9307),
    "a photo with serious noise": (320, 1125, 593, 4770, 9307),
    "a photo with extreme noise": (320, 1125, 593, 8331, 9307),
}


def texts_to_tokens(texts: Sequence[str]) -> Tensor:
    """Texts to int64 [len(texts), 77].

    Raises:
        ValueError: A text that is not one of the ten.
    """
    tokens = torch.zeros(len(texts), LENGTH, dtype=torch.int64)
    for row, text in zip(tokens, texts, strict=True):
        if text not in TOKENS:
            known = ", ".join(f"'{known}'" for known in TOKENS)
            raise ValueError(
                f"'{text}' cannot be tokenised: CLIP's vocabulary is not part of aigve yet, only "
                f"the tokens of {known}"
            )
        pieces = (START, *TOKENS[text], END)
        row[: len(pieces)] = torch.tensor(pieces)
    return tokens
