"""VideoPhy-2's judge, AutoEval: rates how a video keeps to its caption and to the laws of physics.

Paper: Bansal et al., VideoPhy-2: A Challenging Action-Centric Physical Commonsense Evaluation in
Video Generation, 2025 (arXiv:2503.06800). Reference: https://github.com/Hritikbansal/videophy,
``VIDEOPHY2``, commits 133d120 and b942132 (``template.py``; MIT, Copyright (c) 2024 Hritikbansal).
Only two of its questions are from there, as the model was trained on them.

An answer is the likeliest one, token by token, up to 255 tokens, as there. Nothing here reads a
rating out of it; how likely each digit was where it wrote one is kept.

Different here: what ``generation_config.json`` says is not heeded but for the tokens that end an
answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import transformers
from torch import Tensor, nn

from aigve_models._answers import DIGITS, DigitWatcher, Record, written_to_record
from aigve_models._mplug_owl_video import MplugOwlVideo, folder_to_owl, folder_to_owl_config
from aigve_models._owl_talk import (
    CAPTION,
    MEDIA,
    PartTokenizer,
    caption_to_text,
    check_clips,
    text_to_parts,
)
from aigve_models._pretrained import ON_CPU, Placement, folder_to_ends

MAX_WRITTEN = 255
"""Tokens: the reference stops at 256 with the one that begins a text."""
_BEFORE = (
    "The following is a conversation between a curious human and an AI assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions.\n"
    "Human: <|video|>\n"
)
# From VIDEOPHY2/template.py of the reference (MIT), to the letter.
SEMANTIC = (
    _BEFORE + f'Human: Does this video match the description: "{CAPTION}"? '
    "Please rate the video on a scale from 1 to 5, where 5 indicates a perfect match and 1 "
    "indicates no relevance.\n"
    "AI: "
)
PHYSICS = (
    _BEFORE + "Human: Does this video adhere to the physical laws? "
    "Rate the video on a scale from 1 to 5, where 5 means full compliance and 1 means significant "
    "violations.\n"
    "AI: "
)


class VideoPhy2(nn.Module):
    """A video, its caption and two questions. It has a ``with_text`` and no forward.

    Input: float32 [B, 3, T, S, S], RGB, as the image processor in the model's folder leaves the
    frames of B clips. The model was trained on 32 frames. S is its own size, 224 of the published
    one.
    """

    def __init__(
        self, model: MplugOwlVideo, tokenizer: PartTokenizer, *, ends: Sequence[int]
    ) -> None:
        """Put together what ``load`` has read.

        Args:
            model: The model.
            tokenizer: Its tokenizer.
            ends: Tokens that end an answer.

        Raises:
            ValueError: The tokenizer has no token that writes a digit from 1 to 5.
        """
        super().__init__()
        self.model = model
        self.size = int(model.config.vision_config["image_size"])
        self._tokenizer = tokenizer
        self._ends = tuple(ends)
        self._digits = {digit: tokenizer.of_sign(digit) for digit in DIGITS}
        # Settings that are not given to generate() are taken from the model's own.
        model.language_model.generation_config = transformers.GenerationConfig(
            do_sample=False, num_beams=1, eos_token_id=list(ends), pad_token_id=ends[0]
        )

    def with_text(self, clips: Tensor, texts: tuple[str, ...]) -> dict[str, list[Record]]:
        """Clips, each with its own caption, to ``answers``.

        Args:
            clips: float32 [B, 3, T, S, S].
            texts: B captions.

        Returns:
            ``answers``: B records with ``semantic``, what the model says of the caption, and
            ``physics``, what it says of the laws of physics, whatever the caption; each as
            ``_answers.written_to_record`` gives it.

        Raises:
            ValueError: Another shape, another number of texts, a caption that holds what stands
                for a video or a picture, or more tokens than the model has places for.
        """
        check_clips(clips, texts, self.size)
        about_captions = [text_to_ids(self._tokenizer, SEMANTIC, text) for text in texts]
        about_physics = text_to_ids(self._tokenizer, PHYSICS, "")
        seen = self.model.look(clips)
        return {
            "answers": [
                {
                    "semantic": self._answer(seen[index : index + 1], ids),
                    "physics": self._answer(seen[index : index + 1], about_physics),
                }
                for index, ids in enumerate(about_captions)
            ]
        }

    def _answer(self, seen: Tensor, ids: Sequence[int]) -> Record:
        """One conversation by itself: in a batch, those beside it would change its sums."""
        read = self.model.merge(seen, [ids])
        # The last token that is written needs no place.
        places = int(self.model.config.text_config.max_position_embeddings) - len(ids) + 1
        watcher = DigitWatcher(self._digits)
        language_model: Any = self.model.language_model
        written = language_model.generate(
            inputs_embeds=read.embeddings,
            attention_mask=read.mask,
            max_new_tokens=min(MAX_WRITTEN, places),
            logits_processor=transformers.LogitsProcessorList([watcher]),
        )[0].tolist()
        return written_to_record(
            written,
            watcher.probabilities()[0],
            tokens=self._digits,
            ends=self._ends,
            decode=self._tokenizer.decode,
        )


def text_to_ids(tokenizer: PartTokenizer, prompt: str, caption: str) -> list[int]:
    """A question as the model was trained to read it: cut only where the video stands.

    Raises:
        ValueError: The caption holds what stands for a video or a picture, or there are more
            tokens than the model has places for.
    """
    return tokenizer.read(text_to_parts(caption_to_text(prompt, caption), MEDIA))


def load(
    folder: Path, processor: Path, variant: str = "", placement: Placement = ON_CPU
) -> VideoPhy2:
    """The network of a folder.

    Args:
        folder: Configuration and weights.
        processor: The tokenizer's file.
        variant: There is one, without a name.
        placement: Where its weights go, and in which type.

    Raises:
        ValueError: A variant is named, or not a folder of a model of this kind; the message says
            why.
    """
    if variant:
        raise ValueError(f"videophy2 has no variant '{variant}'")
    config = folder_to_owl_config(folder)
    # First, as they fail sooner than the weights do.
    tokenizer = PartTokenizer(processor, config)
    ends = folder_to_ends(folder, config.text_config.eos_token_id, tokenizer.end)
    return VideoPhy2(folder_to_owl(folder, placement), tokenizer, ends=ends)


def folder_to_picture_size(folder: Path) -> int:
    """The side in pixels of the pictures that a folder's model takes.

    Raises:
        ValueError: Not a folder of a model of this kind; the message says why.
    """
    return int(folder_to_owl_config(folder).vision_config["image_size"])
