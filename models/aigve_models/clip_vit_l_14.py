"""CLIP ViT-L/14's pictures: directions in the space that pictures and texts share.

Paper: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML
2021 (arXiv:2103.00020). Reference: https://github.com/openai/CLIP, commit d05afc4 (MIT). The layers
are those of transformers' ``CLIPVisionModelWithProjection`` (Apache-2.0).

Different here: the numbers are float32, where the reference computes in float16 on a GPU, pictures
are not scaled to length 1, and the published text tower, 124 of 428 million weights, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from aigve_models._openai_clip import Layout, Sizes, project

SIZES = Sizes(patch=14, image_width=1024, image_layers=24, text_width=768, dimensions=768)
_LAYOUT = Layout(SIZES, "clip.")
_OF_TEXTS = ("clip.text_model.", "clip.text_projection.", "clip.logit_scale")
READS_TORCHSCRIPT = True
"""OpenAI's own file is an archive of that kind; its tensors are read and its program is not."""
published_names = _LAYOUT.published_names


class CLIP(nn.Module):
    """Input: float32 [B, 3, 224, 224], RGB, normalised with CLIP's mean and deviation.

    On the scale 0..1 these are (0.48145466, 0.4578275, 0.40821073) and (0.26862954, 0.26130258,
    0.27577711).
    """

    def __init__(self) -> None:
        super().__init__()
        self.clip = CLIPVisionModelWithProjection(SIZES.config().vision_config)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """float32 [B, 3, 224, 224] to ``image`` [B, 768], projected and of any length.

        Raises:
            ValueError: Another shape.
        """
        return {"image": project(images, self.clip.vision_model, self.clip.visual_projection)}


def build(variant: str = "") -> CLIP:
    """The network with random weights; there is one variant, without a name.

    Raises:
        ValueError: A variant is named.
    """
    if variant:
        raise ValueError(f"clip-vit-l-14 has no variant '{variant}'")
    return CLIP()


def checkpoint_to_state(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's layout, or that of transformers, to our names, without the text tower.

    Unknown names stay as they are.
    """
    state = _LAYOUT.to_state(checkpoint)
    return {key: value for key, value in state.items() if not key.startswith(_OF_TEXTS)}
