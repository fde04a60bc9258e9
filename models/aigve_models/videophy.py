"""VideoPhy's judge, VideoCon-Physics: does a video keep to its caption, and to the laws of physics?

Paper: Bansal et al., VideoPhy: Evaluating Physical Commonsense for Video Generation, 2024
(arXiv:2406.03520). Reference: https://github.com/Hritikbansal/videophy, commit 37e3df8
(``videocon/training/pipeline_video`` and ``utils/constants.py``; MIT, Copyright (c) 2024
Hritikbansal). Only its two questions are from there, as the model was trained on them.

A score is the probability of Yes where the answer begins, if only Yes and No are possible there.

Different here: a conversation is read whole. The reference cuts it at 257 tokens, so of a long
caption the end of the question is lost, and the score is read in the middle of the caption;
``tokens`` tells these from the rest. Conversations are not filled up to 257 tokens either, which
changes nothing, and the two probabilities are computed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from aigve_models._mplug_owl_video import MplugOwlVideo, folder_to_owl, folder_to_owl_config
from aigve_models._owl_talk import (
    CAPTION,
    MEDIA,
    PartTokenizer,
    caption_to_text,
    check_clips,
    text_to_parts,
)
from aigve_models._pretrained import ON_CPU, Placement

_BEFORE = (
    "The following is a conversation between a curious human and AI assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions.\n"
    "Human: <|video|>\n"
)
# From utils/constants.py of the reference (MIT), to the letter.
SEMANTIC = _BEFORE + f'Human: Does this video entail the description: "{CAPTION}"?\nAI: '
PHYSICS = _BEFORE + "Human: Does this video follow the physical laws?\nAI: "
ANSWER = "AI: "
SIGNS = (*MEDIA, ANSWER, "\nHuman: ")
"""Where the reference cuts a text before its parts are read."""
READ_BY_REFERENCE = 257
"""Tokens."""


class VideoPhy(nn.Module):
    """A video, its caption and two questions. It has a ``with_text`` and no forward.

    Input: float32 [B, 3, T, S, S], RGB, as the image processor in the model's folder leaves the
    frames of B clips. The model was trained on 32 frames. S is its own size, 224 of the published
    one.
    """

    def __init__(self, model: MplugOwlVideo, tokenizer: PartTokenizer) -> None:
        """Put together what ``load`` has read.

        Raises:
            ValueError: The tokenizer begins Yes and No with the same token.
        """
        super().__init__()
        self.model = model
        self.size = int(model.config.vision_config["image_size"])
        self._tokenizer = tokenizer
        self._answers = [tokenizer.encode(word)[0] for word in ("Yes", "No")]
        if len(set(self._answers)) == 1:
            raise ValueError("its tokenizer begins Yes and No with the same token.")

    def with_text(self, clips: Tensor, texts: tuple[str, ...]) -> dict[str, Tensor]:
        """Clips, each with its own caption, to ``semantic``, ``physics`` and ``tokens``.

        Args:
            clips: float32 [B, 3, T, S, S].
            texts: B captions.

        Returns:
            ``semantic`` and ``physics``: float32 [B, 1], the probabilities of Yes, 0..1, for the
            caption and for the laws of physics; no caption changes the second. ``tokens``: float32
            [B, 2]: how many the conversation about the caption has, with those of the clip, and
            how many the reference reads at most.

        Raises:
            ValueError: Another shape, another number of texts, a caption that holds what stands
                for a video or a picture, or more tokens than the model has places for.
        """
        check_clips(clips, texts, self.size)
        about_captions = [text_to_ids(self._tokenizer, SEMANTIC, text) for text in texts]
        about_physics = text_to_ids(self._tokenizer, PHYSICS, "")
        seen = self.model.look(clips)
        counts = [[len(ids), READ_BY_REFERENCE] for ids in about_captions]
        return {
            "semantic": self._yes(seen, about_captions),
            # By themselves: beside longer conversations their sums would have another order.
            "physics": self._yes(seen, [about_physics] * len(texts)),
            "tokens": torch.tensor(counts, dtype=torch.float32, device=clips.device),
        }

    def _yes(self, seen: Tensor, ids: Sequence[Sequence[int]]) -> Tensor:
        """B conversations to float32 [B, 1]."""
        yes, no = self.model.next_logits(seen, ids)[:, self._answers].unbind(1)
        # The softmax of two is the sigmoid of their difference.
        return torch.sigmoid(yes - no)[:, None].to(seen.device)


def text_to_ids(tokenizer: PartTokenizer, prompt: str, caption: str) -> list[int]:
    """A question as the model was trained to read it.

    Raises:
        ValueError: The caption holds what stands for a video or a picture, or there are more
            tokens than the model has places for.
    """
    parts = text_to_parts(caption_to_text(prompt, caption), SIGNS)
    # What follows "AI: " was an answer in training, and ends with the token that ends a text. The
    # last part is "AI: " itself, so this is seen only where a caption holds these letters.
    closed = {index for index, (before, _) in enumerate(pairwise(parts), 1) if before == ANSWER}
    return tokenizer.read(parts, closed=closed)


def load(
    folder: Path, processor: Path, variant: str = "", placement: Placement = ON_CPU
) -> VideoPhy:
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
        raise ValueError(f"videophy has no variant '{variant}'")
    # First, as it fails sooner than the weights do.
    tokenizer = PartTokenizer(processor, folder_to_owl_config(folder))
    return VideoPhy(folder_to_owl(folder, placement), tokenizer)


def folder_to_picture_size(folder: Path) -> int:
    """The side in pixels of the pictures that a folder's model takes.

    Raises:
        ValueError: Not a folder of a model of this kind; the message says why.
    """
    return int(folder_to_owl_config(folder).vision_config["image_size"])
