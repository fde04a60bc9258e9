"""Conversations about a clip in the tokens of SentencePiece: what VideoPhy and VideoPhy-2 share.

Both read texts with the tokenizer that LLaMA had in transformers 4.28.1: SentencePiece on each part
of a text by itself. Later releases make other tokens of a part that ends with a space, as the last
one does after which the answer is read. So SentencePiece is asked directly here.

Different here: ``</s>`` and the like in a caption are letters; there they ended a text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

import sentencepiece
from torch import Tensor

from aigve_models._mplug_owl_video import VIDEO_TOKEN, MplugOwlVideoConfig
from aigve_models._pretrained import words_of

VIDEO = "<|video|>"
MEDIA = ("<image>", VIDEO)
"""What stands for a picture or a clip in a text."""
CAPTION = "{caption}"
TOKENIZER = "tokenizer.model"


def caption_to_text(prompt: str, caption: str) -> str:
    """A prompt with a caption in its place.

    Raises:
        ValueError: The caption holds what stands for a picture or a clip.
    """
    for sign in MEDIA:
        if sign in caption:
            raise ValueError(f"its text holds '{sign}', which is a sign to the model.")
    # Braces in a caption are letters.
    return prompt.replace(CAPTION, caption)


def text_to_parts(text: str, signs: Sequence[str]) -> list[str]:
    """A text cut before and after each sign; empty parts are left out."""
    pattern = "|".join(map(re.escape, signs))
    return [part for part in re.split(f"({pattern})", text) if part]


def check_clips(clips: Tensor, texts: Sequence[str], size: int) -> None:
    """Refuse what is no batch of clips with a text each.

    Raises:
        ValueError: Another shape than [B, 3, T, size, size] with T of 2 or more, or another number
            of texts than B.
    """
    shape = list(clips.shape)
    if len(shape) != 5 or [shape[1], *shape[3:]] != [3, size, size] or shape[2] < 2:
        raise ValueError(f"clips are [B, 3, T, {size}, {size}] with 2 frames or more, not {shape}")
    if len(texts) != len(clips):
        raise ValueError(f"{len(clips)} clips need as many texts, not {len(texts)}")


class PartTokenizer:
    """SentencePiece, for texts in parts."""

    def __init__(self, folder: Path, config: MplugOwlVideoConfig) -> None:
        """Load the tokenizer.

        Args:
            folder: The folder with ``tokenizer.model``.
            config: That of the model which reads the tokens.

        Raises:
            ValueError: There is none, it is broken, or it is another model's.
        """
        path = folder / TOKENIZER
        if not path.is_file():
            raise ValueError(f"there is no tokenizer in {folder}: no {TOKENIZER}.")
        try:
            self._pieces = sentencepiece.SentencePieceProcessor(model_file=str(path))
            size = self._pieces.get_piece_size()
        except Exception as error:
            raise ValueError(f"the tokenizer {path} cannot be read: {words_of(error)}.") from error
        known = config.text_config.vocab_size
        if size > known:
            raise ValueError(
                f"the tokenizer {path} has {size} tokens, and the model knows only {known}: it is "
                "another model's."
            )
        self.begin, self.end = int(self._pieces.bos_id()), int(self._pieces.eos_id())
        if self.begin < 0 or self.end < 0:
            raise ValueError(f"the tokenizer {path} has no tokens that begin and end a text.")
        self._seen = config.num_query_tokens + 1
        self._places = config.text_config.max_position_embeddings

    def read(self, parts: Sequence[str], *, closed: Collection[int] = ()) -> list[int]:
        """The tokens of a text, the one that begins it first.

        Args:
            parts: The text, cut by :func:`text_to_parts`; a clip's sign becomes its video tokens.
            closed: Numbers of the parts after which the token follows that ends a text.

        Raises:
            ValueError: More tokens than the model has places for.
        """
        ids = [self.begin]
        for index, part in enumerate(parts):
            ids += [VIDEO_TOKEN] * self._seen if part == VIDEO else self.encode(part)
            if index in closed:
                ids.append(self.end)
        if len(ids) > self._places:
            raise ValueError(
                f"it has {len(ids)} tokens, and the model has places for {self._places}."
            )
        return ids

    def encode(self, part: str) -> list[int]:
        """Tokens of a part, or of a word, without those that begin and end a text."""
        ids: list[int] = self._pieces.encode(part)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens; those without one, such as that of the end, give nothing."""
        text: str = self._pieces.decode([token for token in ids if self._has_text(token)])
        return text

    def of_sign(self, sign: str) -> list[int]:
        """The tokens that write a sign: alone, or with a space before it.

        Raises:
            ValueError: There is none.
        """
        ids = [self._pieces.piece_to_id(piece) for piece in (sign, f"\u2581{sign}")]
        found = [token for token in ids if not self._pieces.is_unknown(token)]
        if not found:
            raise ValueError(f"its {TOKENIZER} has no token that writes {sign}.")
        return found

    def _has_text(self, token: int) -> bool:
        # A model may know more tokens than its tokenizer.
        if token >= self._pieces.get_piece_size():
            return False
        return not (self._pieces.is_control(token) or self._pieces.is_unknown(token))
