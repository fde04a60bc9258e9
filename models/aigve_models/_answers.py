"""What a model writes, and how likely each digit was where it wrote one.

Judges that were trained to rate answer in words with whole numbers among them. A number alone hides
whether the model hesitated, so a record of an answer keeps both: the text, and for each digit in it
the probabilities of all digits there. Nothing here reads a rating out of a text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

DIGITS = "12345"
"""Those that ratings have; others are never asked for."""
Record = dict[str, Any]
"""JSON."""


class DigitWatcher:
    """A logits processor: notes how likely the digits 1 to 5 were at each token; changes nothing.

    What it sees is what the model gives, before a temperature.

    Args:
        tokens: By digit, the tokens that write it: alone, or with a space before it.
    """

    def __init__(self, tokens: Mapping[str, Sequence[int]]) -> None:
        self._tokens = [list(tokens[digit]) for digit in DIGITS]
        self._steps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores [B, vocabulary] as they are.

        Raises:
            ValueError: Some are not finite: a model that is broken would still write something.
        """
        if not bool(torch.isfinite(scores).all()):
            raise ValueError("the model gives numbers that are not finite")
        likely = scores.float().softmax(dim=1)
        self._steps.append(torch.stack([likely[:, ids].sum(dim=1) for ids in self._tokens], dim=1))
        return scores

    def probabilities(self) -> Tensor:
        """float32 [B, tokens written, 5], on the CPU; they add up to less than 1."""
        return torch.stack(self._steps, dim=1).cpu()


def written_to_record(
    written: Sequence[int],
    probabilities: Tensor,
    *,
    tokens: Mapping[str, Sequence[int]],
    ends: Sequence[int],
    decode: Callable[[Sequence[int]], str],
) -> Record:
    """What one answer says.

    Args:
        written: Its tokens; what follows the one that ends it is not read.
        probabilities: float32 [at least as many, 5], of :class:`DigitWatcher`.
        tokens: By digit, the tokens that write it.
        ends: Tokens that end an answer.
        decode: From tokens to text, without signs such as those of the end.

    Returns:
        ``text``; ``finish``: ``stop``, or ``length`` if it was cut off; ``digits``: for each digit
        from 1 to 5 in the text its place there (``at``) and the probabilities of 1 to 5 there.
    """
    length = next((i for i, token in enumerate(written) if token in ends), len(written))
    kept = list(written[:length])
    of_digits = {token: digit for digit in DIGITS for token in tokens[digit]}
    digits = []
    for index, token in enumerate(kept):
        # A token of a digit may begin with a space: the digit is the last sign so far.
        if token in of_digits and (before := decode(kept[: index + 1])).endswith(of_digits[token]):
            likely = [float(value) for value in probabilities[index]]
            digits.append({"at": len(before) - 1, "probabilities": likely})
    finish = "stop" if length < len(written) else "length"
    return {"text": decode(kept), "finish": finish, "digits": digits}
