"""ViCLIP ViT-L: videos of 8 frames and texts as directions in one space.

Paper: Wang et al., InternVid: A Large-scale Video-Text Dataset for Multimodal Understanding and
Generation, ICLR 2024 (arXiv:2307.06942). Reference: https://github.com/OpenGVLab/InternVideo, as
in https://github.com/Vchitect/VBench, commit 45e79ec, ``vbench/third_party/ViCLIP`` (Apache-2.0).
The layers have the published names.

CLIP's two towers, with a longer sequence for videos: the patches of all frames and one class token,
each of which attends to all. Different here: the numbers are float32, and neither videos nor texts
are scaled to length 1.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from aigve_models._clip_tokens import texts_to_tokens

SIDE = 224
FRAMES = 8
VOCABULARY, TEXT_LENGTH = 49408, 32
HEAD = 64
"""Width of an attention head."""


@dataclass(frozen=True)
class Sizes:
    """What the towers are made of, by default the published ones."""

    patch: int = 14
    video_width: int = 1024
    video_layers: int = 24
    text_width: int = 768
    text_layers: int = 12
    dimensions: int = 768
    """Of the space that videos and texts share."""


PUBLISHED = Sizes()


class QuickGELU(nn.Module):
    """CLIP's activation."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """Attention and two linear layers, each on normed tokens and added to them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, width // HEAD, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(width, 4 * width),
                gelu=QuickGELU(),
                c_proj=nn.Linear(4 * width, width),
            )
        )
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B, N, W] to [B, N, W]; ``mask`` [N, N] is added to the attention."""
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False, attn_mask=mask)[0]
        mixed: Tensor = x + self.mlp(self.ln_2(x))
        return mixed


class Transformer(nn.Module):
    """Blocks, one after another."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B, N, W] to [B, N, W]."""
        for block in self.resblocks:
            x = block(x, mask)
        return x


class VideoEncoder(nn.Module):
    """Input: float32 [B, 3, 8, 224, 224]."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width, patches = sizes.video_width, (SIDE // sizes.patch) ** 2
        shape = (1, sizes.patch, sizes.patch)
        self.conv1 = nn.Conv3d(3, width, shape, stride=shape, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros(patches + 1, width))
        self.temporal_positional_embedding = nn.Parameter(torch.zeros(1, FRAMES, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, sizes.video_layers)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.zeros(width, sizes.dimensions))

    def forward(self, clips: Tensor) -> Tensor:
        """[B, 3, 8, 224, 224] to [B, D]."""
        # [B, W, T, h, w] to [B, h * w, T, W]: of a place, its frames lie side by side.
        patches = self.conv1(clips).flatten(3).permute(0, 3, 2, 1)
        places, times = self.positional_embedding[1:, None], self.temporal_positional_embedding
        tokens = (patches + places + times).flatten(1, 2)
        first = (self.class_embedding + self.positional_embedding[0]).expand(len(clips), 1, -1)
        seen = self.transformer(self.ln_pre(torch.cat([first, tokens], dim=1)))
        projected: Tensor = self.ln_post(seen[:, 0]) @ self.proj
        return projected


class TextEncoder(nn.Module):
    """Input: int64 [N, 32], each row ended by the token with the largest number."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.text_width
        self.token_embedding = nn.Embedding(VOCABULARY, width)
        self.positional_embedding = nn.Parameter(torch.zeros(TEXT_LENGTH, width))
        self.transformer = Transformer(width, sizes.text_layers)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.zeros(width, sizes.dimensions))

    def forward(self, tokens: Tensor) -> Tensor:
        """[N, 32] to [N, D]."""
        x = self.token_embedding(tokens) + self.positional_embedding
        # No token attends to those behind it.
        mask = torch.full((TEXT_LENGTH, TEXT_LENGTH), -torch.inf, device=x.device).triu(1)
        read = self.ln_final(self.transformer(x, mask))
        ends = read[torch.arange(len(read), device=x.device), tokens.argmax(1)]
        projected: Tensor = ends @ self.text_projection
        return projected


class ViCLIP(nn.Module):
    """Input: float32 [B, 3, 8, 224, 224], RGB, normalised with CLIP's mean and deviation."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.vision_encoder = VideoEncoder(sizes)
        self.text_encoder = TextEncoder(sizes)

    def forward(self, clips: Tensor) -> dict[str, Tensor]:
        """float32 [B, 3, 8, 224, 224] to ``video`` [B, D], projected and of any length.

        Raises:
            ValueError: Another shape.
        """
        if clips.shape[1:] != (3, FRAMES, SIDE, SIDE):
            raise ValueError(f"clips are [B, 3, {FRAMES}, {SIDE}, {SIDE}], not {list(clips.shape)}")
        return {"video": self.vision_encoder(clips).float()}

    def text(self, texts: tuple[str, ...]) -> dict[str, Tensor]:
        """Texts to ``text`` [N, D], projected and of any length, and ``tokens`` [N, 2].

        Those are how many tokens a text has, with a start and an end, and how many are read.
        """
        tokens, lengths = texts_to_tokens(texts, TEXT_LENGTH)
        device = self.text_encoder.text_projection.device
        counts = torch.tensor([[length, TEXT_LENGTH] for length in lengths])
        return {"text": self.text_encoder(tokens.to(device)).float(), "tokens": counts}


def build(variant: str = "") -> ViCLIP:
    """The network with random weights; there is one variant, without a name.

    Raises:
        ValueError: A variant is named.
    """
    if variant:
        raise ValueError(f"viclip has no variant '{variant}'")
    return ViCLIP(PUBLISHED)


def checkpoint_to_state(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The published tensors without the temperature of training; unknown names stay."""
    return {key: value for key, value in checkpoint.items() if key != "temp"}
