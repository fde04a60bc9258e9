"""CLIP and its relatives: a picture and a text as directions in one space.

Papers: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML
2021 (arXiv:2103.00020); Zhai et al., Sigmoid Loss for Language Image Pre-Training, ICCV 2023
(arXiv:2303.15343). Reference: the layers are those of transformers (Apache-2.0), which are used as
they are.

Different here: neither pictures nor texts are scaled to length 1, a text that is too long is cut
instead of refused, and weights that do not fit to the last tensor are refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from aigve_models._pretrained import (
    TextReader,
    folder_to_config,
    folder_to_model,
    folder_to_vision_size,
)

_CLASSES = {
    "clip": "CLIPModel",
    "metaclip_2": "MetaClip2Model",
    "chinese_clip": "ChineseCLIPModel",
    "altclip": "AltCLIPModel",
    "siglip": "SiglipModel",
}
"""By ``model_type`` in ``config.json``."""
_POOLED_AT_END = ("clip", "metaclip_2")
"""Kinds that take a text's features where it ends, and nonsense where it has no such end."""
_ANY_END = 2
"""What older files of OpenAI's models state: the end is the largest token, whatever it is."""
_WHY_NOT = {
    "siglip2": "its pictures are patches of any number (NaFlex). SigLIP 2 of a fixed size is of "
    "type siglip, and will do"
}


class DualEncoder(nn.Module):
    """An image encoder and a text encoder with one space.

    Input: float32 [B, 3, S, S], RGB, as the image processor in the model's folder leaves it. S is
    the model's own size.
    """

    def __init__(self, model: Any, reader: TextReader, *, masked: bool) -> None:
        """Put together what ``load`` has read.

        Args:
            model: One of transformers' classes with ``get_image_features``.
            reader: Its tokenizer.
            masked: Whether the text encoder was trained to ignore what fills up short texts.
        """
        super().__init__()
        self.model = model
        self.size = int(model.config.vision_config.image_size)
        self._reader = reader
        self._masked = masked

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """float32 [B, 3, S, S] to ``image`` [B, D]: projected, not scaled to length 1.

        Raises:
            ValueError: Another shape.
        """
        check_images(images, self.size)
        return {"image": _projected(self.model.get_image_features(pixel_values=images))}

    def text(self, texts: tuple[str, ...]) -> dict[str, Tensor]:
        """N texts to ``text``, ``tokens`` and ``logit``.

        A text longer than the model reads is cut, and ends with the token that ends a text. SigLIP
        was trained on texts filled up to its limit, of which it reads every token; the others read
        a text's own tokens.

        Returns:
            ``text`` [N, D], projected, not scaled to length 1. ``tokens`` [N, 2]: how many each
            text has uncut, the first and last included, and how many the model reads at most.
            ``logit`` [N, 2], the same in each row: the factor exp(logit_scale) and the bias, 0 for
            all but SigLIP, that make a cosine what the model was trained on.

        Raises:
            ValueError: The tokenizer gives a token that the model does not know.
        """
        read = self._reader.read(texts, self.model.logit_scale.device)
        mask = read.mask if self._masked else None
        features = self.model.get_text_features(input_ids=read.ids, attention_mask=mask)
        return {
            "text": _projected(features),
            "tokens": read.counts,
            "logit": self._logit().expand(len(texts), 2),
        }

    def _logit(self) -> Tensor:
        """float32 [2]."""
        scale = self.model.logit_scale.float().exp().reshape(1)
        bias = getattr(self.model, "logit_bias", None)
        return torch.cat([scale, torch.zeros_like(scale) if bias is None else bias.reshape(1)])


def load(folder: Path, processor: Path, variant: str = "") -> DualEncoder:
    """The network of a folder.

    Args:
        folder: Configuration and weights.
        processor: The tokenizer's files.
        variant: Empty: there is no other.

    Raises:
        ValueError: Another variant, or not a folder of a model of this kind; the message says why.
    """
    if variant:
        raise ValueError(f"there is no variant '{variant}': leave it empty.")
    kind = _kind_of(folder)
    model: Any = folder_to_model(folder, getattr(transformers, _CLASSES[kind]))
    sigmoid = kind == "siglip"
    reader = TextReader(processor, model.config, positions=_positions(model.config), fill=sigmoid)
    if kind in _POOLED_AT_END:
        _check_end(model.config, reader, processor)
    return DualEncoder(model, reader, masked=not sigmoid)


def folder_to_picture_size(folder: Path) -> int:
    """The side in pixels of the pictures that a folder's model takes.

    Raises:
        ValueError: Not a folder of a model of this kind; the message says why.
    """
    _kind_of(folder)
    return folder_to_vision_size(folder)


def _kind_of(folder: Path) -> str:
    kind = folder_to_config(folder).get("model_type")
    if kind not in _CLASSES:
        why = _WHY_NOT.get(str(kind), "this network reads others")
        raise ValueError(f"its model_type is '{kind}': {why}. Known: {', '.join(_CLASSES)}.")
    return str(kind)


def check_images(images: Tensor, size: int) -> None:
    """Refuse pictures that a network was not trained on.

    Raises:
        ValueError: Not [B, 3, size, size].
    """
    if images.ndim != 4 or images.shape[1:] != (3, size, size):
        raise ValueError(f"images are [B, 3, {size}, {size}], not {list(images.shape)}")


def _check_end(config: Any, reader: TextReader, processor: Path) -> None:
    """Refuse a tokenizer whose texts do not end as the model's do."""
    ids = reader.read(("a photo",), torch.device("cpu")).ids[0].tolist()
    stated = int(config.text_config.eos_token_id)
    end = max(ids) if stated == _ANY_END else stated
    if ids[-1] != end or ids.count(end) != 1:
        raise ValueError(
            f"the tokenizer in {processor} ends texts with token {ids[-1]}, and the model looks "
            f"for {'the largest one' if stated == _ANY_END else stated}: it is another model's."
        )


def _positions(config: Any) -> int:
    text = config.text_config
    # XLM-RoBERTa counts places from behind that of the token which fills up.
    unused = text.pad_token_id + 1 if config.model_type == "altclip" else 0
    return int(text.max_position_embeddings) - unused


def _projected(features: Any) -> Tensor:
    """float32 [N, D]; transformers 5 wraps it, earlier releases and some models do not."""
    projected: Tensor = features if isinstance(features, Tensor) else features.pooler_output
    return projected.float()
