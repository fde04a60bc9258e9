"""OpenAI's CLIP: sizes, published names and layers that its models share.

Paper: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML
2021 (arXiv:2103.00020). Reference: https://github.com/openai/CLIP, commit d05afc4 (MIT). The layers
are those of transformers (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import CLIPConfig

SIDE = 224
_OPENAI_SIZES = ("input_resolution", "context_length", "vocab_size")
"""What the reference's archive states beside its weights."""
_HF_CONSTANTS = (
    "text_model.embeddings.position_ids",
    "vision_model.embeddings.position_ids",
)
"""0, 1, 2, …: older files have them, transformers counts by itself."""
_BLOCK_PARTS = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_ONCE = {
    "logit_scale": "logit_scale",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    # transformers' misspelling.
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
}
_TRANSPOSED = {
    "text_projection": "text_projection.weight",
    "visual.proj": "visual_projection.weight",
}


@dataclass(frozen=True)
class Sizes:
    """What one of the models is made of."""

    patch: int
    image_width: int
    image_layers: int
    text_width: int
    dimensions: int
    """Of the space that pictures and texts share."""
    text_layers: int = 12

    def config(self) -> CLIPConfig:
        """The same for transformers; heads are 64 wide."""
        # Written out: what transformers takes for granted has changed between its versions.
        shared = {
            "projection_dim": self.dimensions,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
        }
        text = {
            "vocab_size": 49408,
            "max_position_embeddings": 77,
            "hidden_size": self.text_width,
            "intermediate_size": 4 * self.text_width,
            "num_hidden_layers": self.text_layers,
            "num_attention_heads": self.text_width // 64,
            "bos_token_id": 49406,
            "eos_token_id": 49407,
        }
        vision = {
            "image_size": SIDE,
            "patch_size": self.patch,
            "hidden_size": self.image_width,
            "intermediate_size": 4 * self.image_width,
            "num_hidden_layers": self.image_layers,
            "num_attention_heads": self.image_width // 64,
        }
        return CLIPConfig(
            text_config=shared | text,
            vision_config=shared | vision,
            projection_dim=self.dimensions,
        )


class Layout:
    """OpenAI's layout of one of the models, or that of transformers, as transformers' names.

    Args:
        sizes: Of the model.
        prefix: Before each of our own names.
    """

    def __init__(self, sizes: Sizes, prefix: str) -> None:
        self._prefix = prefix
        towers = (
            ("visual.transformer", "vision_model.encoder", sizes.image_layers),
            ("transformer", "text_model.encoder", sizes.text_layers),
        )
        layers = [
            (f"{theirs}.resblocks.{i}", f"{ours}.layers.{i}")
            for theirs, ours, count in towers
            for i in range(count)
        ]
        self._names = _ONCE | {
            f"{theirs}.{part}.{kind}": f"{ours}.{our_part}.{kind}"
            for theirs, ours in layers
            for part, our_part in _BLOCK_PARTS.items()
            for kind in ("weight", "bias")
        }
        """What only has another name."""
        self._attentions = {
            f"{theirs}.attn.in_proj_{kind}": f"{ours}.self_attn.{{}}_proj.{kind}"
            for theirs, ours in layers
            for kind in ("weight", "bias")
        }
        """What holds query, key and value in one; ``{}`` stands for their first letters."""

    def to_state(self, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
        """A checkpoint by our names; unknown names stay as they are."""
        if not _is_openai(checkpoint):
            return {
                self._prefix + key: checkpoint[key]
                for key in checkpoint
                if key not in _HF_CONSTANTS
            }
        state: dict[str, Any] = {}
        for key, value in checkpoint.items():
            if key in self._names:
                state[self._prefix + self._names[key]] = value
            elif key in _TRANSPOSED:
                state[self._prefix + _TRANSPOSED[key]] = value.T
            elif key in self._attentions:
                for part, letter in zip(value.chunk(3), "qkv", strict=True):
                    state[self._prefix + self._attentions[key].format(letter)] = part
            elif key not in _OPENAI_SIZES:
                state[key] = value
        return state

    def published_names(self, checkpoint: Mapping[str, Any]) -> dict[str, str]:
        """Our names to those in the file; query, key and value of OpenAI's layout share one."""
        if not _is_openai(checkpoint):
            return {self._prefix + key: key for key in checkpoint}
        names = {ours: theirs for theirs, ours in (self._names | _TRANSPOSED).items()}
        for theirs, ours in self._attentions.items():
            names |= {ours.format(letter): theirs for letter in "qkv"}
        return {self._prefix + ours: theirs for ours, theirs in names.items()}


def _is_openai(checkpoint: Mapping[str, Any]) -> bool:
    return any(key.startswith("visual.") for key in checkpoint)


def project(
    images: Tensor, see: Callable[..., Any], projection: Callable[[Tensor], Tensor]
) -> Tensor:
    """float32 [B, 3, 224, 224] to rows [B, D], projected and of any length.

    Raises:
        ValueError: Another shape.
    """
    if images.shape[1:] != (3, SIDE, SIDE):
        raise ValueError(f"images are [B, 3, {SIDE}, {SIDE}], not {list(images.shape)}")
    return projection(see(pixel_values=images).pooler_output).float()
