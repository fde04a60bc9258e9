"""CLIP ViT-B/32: pictures and texts as directions in one space.

Paper: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML
2021 (arXiv:2103.00020). Reference: https://github.com/openai/CLIP, commit d05afc4 (MIT). The layers
are those of transformers' ``CLIPModel`` (Apache-2.0).

Different here: the numbers are float32, where the reference computes in float16 on a GPU, and
neither pictures nor texts are scaled to length 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel

from aigve_models._clip_tokens import texts_to_tokens

SIDE = 224
LAYERS = 12
TEXT_HEADS, IMAGE_HEADS = 8, 12
DIMENSIONS = 512

_OPENAI_SIZES = ("input_resolution", "context_length", "vocab_size")
"""What the reference's archive states beside its weights."""
_HF_CONSTANTS = (
    "text_model.embeddings.position_ids",
    "vision_model.embeddings.position_ids",
)
"""0, 1, 2, …: older files have them, transformers counts by itself."""
_TOWERS = {"visual.transformer": "vision_model.encoder", "transformer": "text_model.encoder"}
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

READS_TORCHSCRIPT = True
"""OpenAI's own file is an archive of that kind; its tensors are read and its program is not."""


class CLIP(nn.Module):
    """Input: float32 [B, 3, 224, 224], RGB, normalised with CLIP's mean and deviation.

    On the scale 0..1 these are (0.48145466, 0.4578275, 0.40821073) and (0.26862954, 0.26130258,
    0.27577711).
    """

    def __init__(self) -> None:
        super().__init__()
        self.clip = CLIPModel(_config())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """float32 [B, 3, 224, 224] to ``image`` [B, 512], projected and of any length.

        Raises:
            ValueError: Another shape.
        """
        if images.shape[1:] != (3, SIDE, SIDE):
            raise ValueError(f"images are [B, 3, {SIDE}, {SIDE}], not {list(images.shape)}")
        seen = self.clip.vision_model(pixel_values=images).pooler_output
        return {"image": self.clip.visual_projection(seen).float()}

    def text(self, texts: tuple[str, ...]) -> dict[str, Tensor]:
        """Texts to ``text`` [len(texts), 512], projected and of any length.

        Raises:
            ValueError: A text that cannot be tokenised.
        """
        tokens = texts_to_tokens(texts).to(self.clip.text_projection.weight.device)
        return {"text": self.tokens_to_rows(tokens)}

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


def checkpoint_to_state(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's layout, or that of transformers, to our names; unknown names stay as they are."""
    if not _is_openai(checkpoint):
        return {f"clip.{key}": checkpoint[key] for key in checkpoint if key not in _HF_CONSTANTS}
    state = {}
    names = _openai_names()
    attentions = _openai_attentions()
    for key, value in checkpoint.items():
        if key in names:
            state[f"clip.{names[key]}"] = value
        elif key in _TRANSPOSED:
            state[f"clip.{_TRANSPOSED[key]}"] = value.T
        elif key in attentions:
            for part, name in zip(value.chunk(3), "qkv", strict=True):
                state[f"clip.{attentions[key].format(name)}"] = part
        elif key not in _OPENAI_SIZES:
            state[key] = value
    return state


def published_names(checkpoint: Mapping[str, Any]) -> dict[str, str]:
    """Our names to those in the file; query, key and value of OpenAI's layout share one."""
    if not _is_openai(checkpoint):
        return {f"clip.{key}": key for key in checkpoint}
    names = {ours: theirs for theirs, ours in (_openai_names() | _TRANSPOSED).items()}
    for theirs, ours in _openai_attentions().items():
        names |= {ours.format(letter): theirs for letter in "qkv"}
    return {f"clip.{ours}": theirs for ours, theirs in names.items()}


def _is_openai(checkpoint: Mapping[str, Any]) -> bool:
    return any(key.startswith("visual.") for key in checkpoint)


def _openai_names() -> dict[str, str]:
    """What only has another name."""
    return _ONCE | {
        f"{theirs}.resblocks.{i}.{part}.{kind}": f"{ours}.layers.{i}.{our_part}.{kind}"
        for theirs, ours in _TOWERS.items()
        for i in range(LAYERS)
        for part, our_part in _BLOCK_PARTS.items()
        for kind in ("weight", "bias")
    }


def _openai_attentions() -> dict[str, str]:
    """What holds query, key and value in one; ``{}`` stands for their first letters."""
    return {
        f"{theirs}.resblocks.{i}.attn.in_proj_{kind}": f"{ours}.layers.{i}.self_attn.{{}}_proj."
        + kind
        for theirs, ours in _TOWERS.items()
        for i in range(LAYERS)
        for kind in ("weight", "bias")
    }


def _config() -> CLIPConfig:
    # Written out: what transformers takes for granted has changed between its versions.
    shared = {
        "num_hidden_layers": LAYERS,
        "projection_dim": DIMENSIONS,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    }
    text = {
        "vocab_size": 49408,
        "max_position_embeddings": 77,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_attention_heads": TEXT_HEADS,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
    }
    vision = {
        "image_size": SIDE,
        "patch_size": 32,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": IMAGE_HEADS,
    }
    return CLIPConfig(
        text_config=shared | text, vision_config=shared | vision, projection_dim=DIMENSIONS
    )
