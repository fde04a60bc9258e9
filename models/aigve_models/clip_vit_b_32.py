"""CLIP ViT-B/32: pictures and texts as directions in one space.

Paper: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML
2021 (arXiv:2103.00020). Reference: https://github.com/openai/CLIP, commit d05afc4 (MIT). The layers
are those of transformers' ``CLIPModel`` (Apache-2.0).

Different here: the numbers are float32, where the reference computes in float16 on a GPU, and
neither pictures nor texts are scaled to length 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import CLIPModel

from aigve_models._clip_tokens import LENGTH, texts_to_tokens
from aigve_models._openai_clip import Layout, Sizes, project

SIZES = Sizes(patch=32, image_width=768, image_layers=12, text_width=512, dimensions=512)
_LAYOUT = Layout(SIZES, "clip.")
READS_TORCHSCRIPT = True
"""OpenAI's own file is an archive of that kind; its tensors are read and its program is not."""
checkpoint_to_state = _LAYOUT.to_state
published_names = _LAYOUT.published_names


class CLIP(nn.Module):
    """Input: float32 [B, 3, 224, 224], RGB, normalised with CLIP's mean and deviation.

    On the scale 0..1 these are (0.48145466, 0.4578275, 0.40821073) and (0.26862954, 0.26130258,
    0.27577711).
    """

    def __init__(self) -> None:
        super().__init__()
        self.clip = CLIPModel(SIZES.config())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """float32 [B, 3, 224, 224] to ``image`` [B, 512], projected and of any length.

        Raises:
            ValueError: Another shape.
        """
        return {"image": project(images, self.clip.vision_model, self.clip.visual_projection)}

    def text(self, texts: tuple[str, ...]) -> dict[str, Tensor]:
        """Texts to ``text`` [len(texts), 512], projected and of any length.

        And ``tokens`` [len(texts), 2]: how many tokens a text has, with a start and an end, and how
        many of them are read.
        """
        tokens, lengths = texts_to_tokens(texts)
        device = self.clip.text_projection.weight.device
        counts = torch.tensor([[length, LENGTH] for length in lengths])
        return {"text": self.tokens_to_rows(tokens.to(device)), "tokens": counts}

    def tokens_to_rows(self, tokens: Tensor) -> Tensor:
        """int64 [N, 77], each row ended by token 49407, to float32 [N, 512]."""
        read = self.clip.text_model(input_ids=tokens).pooler_output
        rows: Tensor = self.clip.text_projection(read).float()
        return rows


def build(variant: str = "") -> CLIP:
    """The network with random weights; there is one variant, without a name.

    Raises:
        ValueError: A variant is named.
    """
    if variant:
        raise ValueError(f"clip-vit-b-32 has no variant '{variant}'")
    return CLIP()
