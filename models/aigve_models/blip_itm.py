"""BLIP for image-text retrieval: two encoders with one space, and one that sees both at once.

Paper: Li et al., BLIP: Bootstrapping Language-Image Pre-training for Unified Vision-Language
Understanding and Generation, ICML 2022 (arXiv:2201.12086). Reference:
https://github.com/salesforce/BLIP (BSD-3-Clause), in the layers of transformers (Apache-2.0).

Different here: a text is always read with its mask, so those beside it do not change it, and
weights that do not fit to the last tensor are refused. As in transformers, and unlike LAVIS, a text
begins with [CLS] in ``with_text`` too, not with [ENC].
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BlipForImageTextRetrieval

from aigve_models._pretrained import (
    TextReader,
    folder_to_config,
    folder_to_model,
    folder_to_vision_size,
)
from aigve_models.clip import check_images

KIND = "blip"
_TOKENS = re.compile(r"tokens=([1-9]\d*)")


class BlipRetrieval(nn.Module):
    """An image encoder, and a text encoder that may look at a picture.

    Input: float32 [B, 3, S, S], RGB, as the image processor in the model's folder leaves it. S is
    the model's own size, 384 of those published.
    """

    def __init__(self, model: Any, reader: TextReader) -> None:
        """Put together what ``load`` has read."""
        super().__init__()
        self.model = model
        self.size = int(model.config.vision_config.image_size)
        self._reader = reader

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """float32 [B, 3, S, S] to ``image`` [B, D]: projected, not scaled to length 1.

        Raises:
            ValueError: Another shape.
        """
        return {"image": self.model.vision_proj(self._patches(images)[:, 0]).float()}

    def text(self, texts: tuple[str, ...]) -> dict[str, Tensor]:
        """N texts to ``text`` and ``tokens``.

        A longer text than the model reads is cut, and ends with the token that ends a text. The
        limit is the smallest of three: the tokenizer's 512 tokens, the places that the text encoder
        has (``text_config.max_position_embeddings``), and what the variant says.

        Returns:
            ``text`` [N, D], projected, not scaled to length 1. ``tokens`` [N, 2]: how many each
            text has uncut, the first and last included, and how many the model reads at most.

        Raises:
            ValueError: The tokenizer gives a token that the model does not know.
        """
        read = self._reader.read(texts, self.model.text_proj.weight.device)
        states = self.model.text_encoder(input_ids=read.ids, attention_mask=read.mask)
        projected = self.model.text_proj(states.last_hidden_state[:, 0])
        return {"text": projected.float(), "tokens": read.counts}

    def with_text(self, images: Tensor, texts: tuple[str, ...]) -> dict[str, Tensor]:
        """Pictures, each seen together with its own text, to ``itm`` [B, 1].

        Args:
            images: float32 [B, 3, S, S].
            texts: B texts, cut as in :meth:`text`.

        Returns:
            ``itm``: the probability that the two match, 0..1.

        Raises:
            ValueError: Another shape, another number of texts, or a token that the model does not
                know.
        """
        if len(texts) != len(images):
            raise ValueError(f"{len(images)} pictures need as many texts, not {len(texts)}")
        patches = self._patches(images)
        read = self._reader.read(texts, images.device)
        states = self.model.text_encoder(
            input_ids=read.ids,
            attention_mask=read.mask,
            encoder_hidden_states=patches,
            encoder_attention_mask=torch.ones(
                patches.shape[:2], dtype=torch.int64, device=images.device
            ),
        )
        logits = self.model.itm_head(states.last_hidden_state[:, 0])  # [B, 2]: no match, match
        return {"itm": logits.float().softmax(dim=1)[:, 1:]}

    def _patches(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] to [B, 1 + patches, width]."""
        check_images(images, self.size)
        patches: Tensor = self.model.vision_model(pixel_values=images).last_hidden_state
        return patches


def load(folder: Path, processor: Path, variant: str = "") -> BlipRetrieval:
    """The network of a folder.

    Args:
        folder: Configuration and weights.
        processor: The tokenizer's files.
        variant: Empty, or ``tokens=N``: texts are cut at so many tokens, if the model reads more.

    Raises:
        ValueError: Another variant, or not a folder of a model of this kind; the message says why.
    """
    stated = _TOKENS.fullmatch(variant)
    if variant and stated is None:
        raise ValueError(f"there is no variant '{variant}': it is empty, or tokens=N.")
    _check_kind(folder)
    model: Any = folder_to_model(folder, BlipForImageTextRetrieval)
    positions = int(model.config.text_config.max_position_embeddings)
    if stated:
        positions = min(positions, int(stated[1]))
    return BlipRetrieval(model, TextReader(processor, model.config, positions=positions))


def folder_to_picture_size(folder: Path) -> int:
    """The side in pixels of the pictures that a folder's model takes.

    Raises:
        ValueError: Not a folder of a model of this kind; the message says why.
    """
    _check_kind(folder)
    return folder_to_vision_size(folder)


def _check_kind(folder: Path) -> None:
    kind = folder_to_config(folder).get("model_type")
    if kind != KIND:
        raise ValueError(f"its model_type is '{kind}', not '{KIND}'.")
