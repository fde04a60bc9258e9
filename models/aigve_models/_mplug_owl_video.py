"""mPLUG-Owl-Video: a language model that sees a clip as 65 words.

Paper: Ye et al., mPLUG-Owl: Modularization Empowers Large Language Models with Multimodality, 2023
(arXiv:2304.14178). Reference: https://github.com/X-PLUG/mPLUG-Owl, commit e54c72b,
``mplug_owl_video`` (Apache-2.0); no code is from there. The language model is that of transformers
(Apache-2.0).

As there: a layer of the vision model adds what its adapter over time gives to its input, and the
adapter hands the class token on, so every layer doubles that token; and a layer of the abstractor
adds to its normalised queries, not to the queries.

Different here: all attention is torch's own, which never rounds its probabilities to the weights'
type; the convolution over time is a sum of three in float32, where the reference takes float16 for
weights in bfloat16; only the logits that are asked for are computed; a single picture, which the
reference sees without adapters, is refused. Weights that do not fit to the last tensor are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PretrainedConfig, PreTrainedModel

from aigve_models._pretrained import (
    Placement,
    folder_to_config,
    folder_to_model,
    words_of,
)

KIND = "mplug-owl"
VIDEO_TOKEN = -2
"""Stands in a conversation for what the language model sees of a clip."""
ADAPTER_EPS = 1e-5
"""Of the norms for which the configuration states none."""
_VISION: Mapping[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "image_size": 224,
    "patch_size": 14,
    "layer_norm_eps": 1e-6,
}
_ABSTRACTOR: Mapping[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 16,
    "intermediate_size": 2816,
    "encoder_hidden_size": 1024,
    "layer_norm_eps": 1e-6,
}
"""Sizes of the published models: what a configuration leaves out is these."""
_QUERIES = 64
_LANGUAGE = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "attention_bias",
    "mlp_bias",
    "head_dim",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "eos_token_id",
)
"""What is read of ``text_config``. Files of 2023 also hold what generation was set to, and other
keys that later releases of transformers refuse."""


class MplugOwlVideoConfig(PretrainedConfig):
    """Sizes of the three parts; what is not given is as in the published models."""

    model_type = KIND
    sub_configs = {"text_config": LlamaConfig}  # noqa: RUF012 - transformers reads it so

    def __init__(
        self,
        vision_config: Mapping[str, Any] | None = None,
        visual_abstractor_config: Mapping[str, Any] | None = None,
        text_config: LlamaConfig | Mapping[str, Any] | None = None,
        num_query_tokens: int = _QUERIES,
        **kwargs: Any,
    ) -> None:
        self.vision_config = {**_VISION, **(vision_config or {})}
        self.visual_abstractor_config = {**_ABSTRACTOR, **(visual_abstractor_config or {})}
        self.text_config: LlamaConfig = (
            text_config
            if isinstance(text_config, LlamaConfig)
            else LlamaConfig(**text_config or {})
        )
        self.num_query_tokens = num_query_tokens
        # By default some releases would give the last layer the weights of the first one.
        super().__init__(**{**kwargs, "tie_word_embeddings": False})


def folder_to_owl_config(folder: Path) -> MplugOwlVideoConfig:
    """The configuration of a folder.

    Raises:
        ValueError: There is none, it is another kind of model's, or sizes in it are no sizes.
    """
    stated = folder_to_config(folder)
    kind = stated.get("model_type")
    if kind != KIND:
        raise ValueError(f"its model_type is '{kind}', not '{KIND}'.")
    vision = _sizes(stated, "vision_config", _VISION)
    abstractor = _sizes(stated, "visual_abstractor_config", _ABSTRACTOR)
    widths = {vision["hidden_size"], abstractor["hidden_size"], abstractor["encoder_hidden_size"]}
    if len(widths) > 1:
        raise ValueError(f"its pictures and its abstractor have several widths: {sorted(widths)}.")
    text = _part(stated, "text_config")
    if not text:
        raise ValueError("it has no text_config, which says how large its language model is.")
    if text.get("model_type", "llama") != "llama":
        raise ValueError(f"its language model is '{text['model_type']}', not 'llama'.")
    queries = {"num_query_tokens": stated.get("num_query_tokens", _QUERIES)}
    _check_size("", queries, "num_query_tokens")
    try:
        language = LlamaConfig(**{key: text[key] for key in _LANGUAGE if key in text})
    except Exception as error:
        raise ValueError(f"its text_config cannot be read: {words_of(error)}.") from error
    for key in ("vocab_size", "max_position_embeddings"):
        _check_size("text_config.", {key: getattr(language, key)}, key)
    return MplugOwlVideoConfig(vision, abstractor, language, **queries)


def folder_to_owl(folder: Path, placement: Placement) -> MplugOwlVideo:
    """The model of a folder, with all of its weights.

    Raises:
        ValueError: As :func:`folder_to_owl_config`, or the weights are not the model's to the last
            tensor.
    """
    config = folder_to_owl_config(folder)
    return cast(MplugOwlVideo, folder_to_model(folder, MplugOwlVideo, placement, config=config))


def _sizes(stated: Mapping[str, Any], name: str, usual: Mapping[str, Any]) -> dict[str, Any]:
    part = _part(stated, name)
    # Sizes that are null are left out too: some releases of transformers write them so.
    sizes = {key: usual[key] if part.get(key) is None else part[key] for key in usual}
    for key in sizes:
        _check_size(f"{name}.", sizes, key)
    width, heads = sizes["hidden_size"], sizes["num_attention_heads"]
    if width % heads:
        raise ValueError(f"its {name} has {heads} heads for a width of {width}.")
    return sizes


def _part(stated: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = stated.get(name)
    if part is None:
        return {}
    if not isinstance(part, dict):
        raise ValueError(f"its {name} is a {type(part).__name__}, not an object.")
    return part


def _check_size(where: str, sizes: Mapping[str, Any], key: str) -> None:
    value = sizes[key]
    kinds = (int, float) if key.endswith("eps") else (int,)
    if type(value) not in kinds or value <= 0:
        raise ValueError(f"its {where}{key} is {value!r}: a number above 0.")


class Pointwise(nn.Conv3d):
    """A linear layer that is published as a convolution of 1 x 1 x 1."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__(inner, outer, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """[..., inner] to [..., outer]."""
        return F.linear(x, self.weight.flatten(1), self.bias)


class DepthwiseOverTime(nn.Conv3d):
    """Each channel of a place with the same one a frame before and after; beyond the ends is 0.

    cuDNN has had no kernel for depthwise convolutions in bfloat16, or a slow one.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, kernel_size=(3, 1, 1), groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, N, C] to the same shape."""
        before, same, after = self.weight.float().flatten(1).unbind(1)
        padded = F.pad(x.float(), (0, 0, 0, 0, 1, 1))
        summed = before * padded[:, :-2] + same * padded[:, 1:-1] + after * padded[:, 2:]
        return (summed if self.bias is None else summed + self.bias.float()).to(x.dtype)


class TemporalAdapter(nn.Module):
    """What patches of one place tell of one another from frame to frame."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(width, eps=ADAPTER_EPS)
        self.down_proj = Pointwise(width, width // 2)
        self.conv = DepthwiseOverTime(width // 2)
        self.up_proj = Pointwise(width // 2, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, 1 + patches, width] to the same shape; the class tokens stay as they are."""
        patches = self.conv(self.down_proj(self.ln(x[:, :, 1:])))
        return torch.cat([x[:, :, :1], self.up_proj(quick_gelu(patches))], dim=2)


class VisionAttention(nn.Module):
    """Attention among the patches of a frame."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.dense = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, width] to the same shape."""
        # Head by head, its query, key and value lie side by side: [B, N, heads, 3, width / heads].
        fused = self.query_key_value(x).unflatten(2, (self.heads, 3, -1))
        query, key, value = fused.transpose(1, 2).unbind(3)  # each [B, heads, N, width / heads]
        attended = F.scaled_dot_product_attention(query, key, value)
        mixed: Tensor = self.dense(attended.transpose(1, 2).flatten(2))
        return mixed


class VisionMLP(nn.Module):
    """Two linear layers."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, width] to the same shape."""
        mixed: Tensor = self.fc2(quick_gelu(self.fc1(x)))
        return mixed


class VisionLayer(nn.Module):
    """Over time, then over the patches of each frame."""

    def __init__(self, sizes: Mapping[str, Any]) -> None:
        super().__init__()
        width, eps = sizes["hidden_size"], sizes["layer_norm_eps"]
        self.temporal = TemporalAdapter(width)
        self.self_attn = VisionAttention(width, sizes["num_attention_heads"])
        self.input_layernorm = nn.LayerNorm(width, eps=eps)
        self.mlp = VisionMLP(width, sizes["intermediate_size"])
        self.post_attention_layernorm = nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, 1 + patches, width] to the same shape."""
        frames = (x + self.temporal(x)).flatten(0, 1)
        frames = frames + self.self_attn(self.input_layernorm(frames))
        frames = frames + self.mlp(self.post_attention_layernorm(frames))
        states: Tensor = frames.unflatten(0, x.shape[:2])
        return states


class VisionEmbeddings(nn.Module):
    """Patches of frames, with a class token before those of each."""

    def __init__(self, sizes: Mapping[str, Any]) -> None:
        super().__init__()
        width, patch = sizes["hidden_size"], sizes["patch_size"]
        patches = (sizes["image_size"] // patch) ** 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position_embedding = nn.Parameter(torch.zeros(1, 1 + patches, width))
        self.patch_embed = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=False)
        self.pre_layernorm = nn.LayerNorm(width, eps=sizes["layer_norm_eps"])

    def forward(self, video: Tensor) -> Tensor:
        """[B, 3, T, S, S] to [B, T, 1 + patches, width]."""
        frames = video.transpose(1, 2)  # [B, T, 3, S, S]
        patches = self.patch_embed(frames.flatten(0, 1)).flatten(2).transpose(1, 2)
        first = self.cls_token.expand(len(patches), -1, -1)
        embedded = self.pre_layernorm(torch.cat([first, patches], dim=1) + self.position_embedding)
        all_of_them: Tensor = embedded.unflatten(0, frames.shape[:2])
        return all_of_them


class Stack(nn.Module):
    """Layers, one after another."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, *beside: Tensor) -> Tensor:
        """Through all layers, each with what is beside."""
        for layer in self.layers:
            x = layer(x, *beside)
        return x


class VisionModel(nn.Module):
    """CLIP's ViT with adapters over time."""

    def __init__(self, sizes: Mapping[str, Any]) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(sizes)
        self.encoder = Stack([VisionLayer(sizes) for _ in range(sizes["num_hidden_layers"])])
        self.post_layernorm = nn.LayerNorm(sizes["hidden_size"], eps=sizes["layer_norm_eps"])

    def forward(self, video: Tensor) -> Tensor:
        """[B, 3, T, S, S] to [B, T, 1 + patches, width]."""
        states: Tensor = self.post_layernorm(self.encoder(self.embeddings(video)))
        return states


class AbstractorMLP(nn.Module):
    """A gated layer."""

    def __init__(self, width: int, inner: int, eps: float) -> None:
        super().__init__()
        self.w1 = nn.Linear(width, inner)
        self.w2 = nn.Linear(inner, width)
        self.w3 = nn.Linear(width, inner)
        self.ffn_ln = nn.LayerNorm(inner, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, width] to the same shape."""
        mixed: Tensor = self.w2(self.ffn_ln(F.silu(self.w1(x)) * self.w3(x)))
        return mixed


class AbstractorAttention(nn.Module):
    """Queries look at themselves and at what they are about."""

    def __init__(self, width: int, heads: int, seen: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(seen, width)
        self.value = nn.Linear(seen, width)

    def forward(self, queries: Tensor, seen: Tensor) -> Tensor:
        """[B, Q, width] and [B, N, seen] to [B, Q, width]."""
        query, key, value = (
            projected.unflatten(2, (self.heads, -1)).transpose(1, 2)  # [B, heads, …, width / heads]
            for projected in (self.query(queries), self.key(seen), self.value(seen))
        )
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


class AbstractorOutput(nn.Module):
    """What follows the attention."""

    def __init__(self, width: int, inner: int, eps: float) -> None:
        super().__init__()
        self.out_proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=ADAPTER_EPS)
        self.mlp = AbstractorMLP(width, inner, eps)

    def forward(self, attended: Tensor, queries: Tensor) -> Tensor:
        """[B, Q, width], twice, to the same shape."""
        mixed = queries + self.out_proj(attended)
        summed: Tensor = mixed + self.mlp(self.norm2(mixed))
        return summed


class CrossAttention(nn.Module):
    """A layer of the abstractor."""

    def __init__(self, sizes: Mapping[str, Any]) -> None:
        super().__init__()
        width, seen = sizes["hidden_size"], sizes["encoder_hidden_size"]
        inner = abstractor_width(sizes["intermediate_size"])
        self.attention = AbstractorAttention(width, sizes["num_attention_heads"], seen)
        self.norm1 = nn.LayerNorm(width, eps=ADAPTER_EPS)
        self.normk = nn.LayerNorm(width, eps=ADAPTER_EPS)
        self.output = AbstractorOutput(width, inner, sizes["layer_norm_eps"])

    def forward(self, queries: Tensor, seen: Tensor) -> Tensor:
        """[B, Q, width] and [B, N, width] to [B, Q, width]."""
        queries = self.norm1(queries)
        attended = self.attention(queries, torch.cat([queries, self.normk(seen)], dim=1))
        mixed: Tensor = self.output(attended, queries)
        return mixed


class AbstractorLayer(nn.Module):
    """Its name in the weights has one step more than it needs."""

    def __init__(self, sizes: Mapping[str, Any]) -> None:
        super().__init__()
        self.crossattention = CrossAttention(sizes)

    def forward(self, queries: Tensor, seen: Tensor) -> Tensor:
        """[B, Q, width] and [B, N, width] to [B, Q, width]."""
        mixed: Tensor = self.crossattention(queries, seen)
        return mixed


class Abstractor(nn.Module):
    """From all patches of all frames to a few words for the language model."""

    def __init__(self, sizes: Mapping[str, Any], words: int) -> None:
        super().__init__()
        width = sizes["hidden_size"]
        self.encoder = Stack([AbstractorLayer(sizes) for _ in range(sizes["num_hidden_layers"])])
        self.visual_fc = nn.Linear(width, words)
        self.temporal_visual_fc = nn.Linear(width, words)
        self.vit_eos = nn.Parameter(torch.zeros(1, 1, words))

    def forward(self, queries: Tensor, temporal_queries: Tensor, seen: Tensor) -> Tensor:
        """[1, Q, width], twice, and [B, T, N, width] to [B, Q + 1, words]."""
        both = torch.cat([queries, temporal_queries], dim=1).expand(len(seen), -1, -1)
        still, moving = self.encoder(both, seen.flatten(1, 2)).chunk(2, dim=1)
        seen_words = self.visual_fc(still) + self.temporal_visual_fc(moving)
        # With layers in main memory this one may stay there, as a parameter that no hook moves.
        last = self.vit_eos.to(seen_words.device).expand(len(seen), -1, -1)
        return torch.cat([seen_words, last], dim=1)


class Conversations(NamedTuple):
    """B conversations as the language model reads them, filled up on the right."""

    embeddings: Tensor
    """[B, L, width]."""
    mask: Tensor
    """int64 [B, L]: 1 for what is of the conversation, 0 for what fills it up."""


class MplugOwlVideo(PreTrainedModel):
    """A vision model, an abstractor and LLaMA.

    Input: clips [B, 3, T, S, S], RGB, T of 2 or more, as the image processor in the model's folder
    leaves their frames. S is the model's own size, 224 of those published.
    """

    config_class = MplugOwlVideoConfig
    main_input_name = "video"
    _supports_sdpa = True
    # Parts that stay whole where a model is spread over a GPU and main memory.
    _no_split_modules = [  # noqa: RUF012 - transformers reads it so
        "VisionEmbeddings",
        "VisionLayer",
        "Abstractor",
        "LlamaDecoderLayer",
    ]
    # Of each layer in older files; the language model computes them.
    _keys_to_ignore_on_load_unexpected = [r"\.rotary_emb\.inv_freq$"]  # noqa: RUF012

    def __init__(self, config: MplugOwlVideoConfig) -> None:
        super().__init__(config)
        abstractor = config.visual_abstractor_config
        queries = (1, config.num_query_tokens, abstractor["hidden_size"])
        self.query_tokens = nn.Parameter(torch.zeros(queries))
        self.temporal_query_tokens = nn.Parameter(torch.zeros(queries))
        self.vision_model = VisionModel(config.vision_config)
        self.abstractor = Abstractor(abstractor, config.text_config.hidden_size)
        self.language_model = LlamaForCausalLM(config.text_config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # What a file lacks is refused later, but until then it must be something.
        super()._init_weights(module)
        for parameter in module.parameters(recurse=False):
            if isinstance(module, VisionEmbeddings | Abstractor | MplugOwlVideo):
                nn.init.zeros_(parameter)

    def look(self, video: Tensor) -> Tensor:
        """Clips [B, 3, T, S, S] to what the language model sees of them: [B, 65, width].

        65 is the number of queries, 64 of those published, and one that ends them. The type of the
        numbers is the weights'.
        """
        # By a call, so that hooks bring the queries where weights are kept elsewhere.
        seen: Tensor = self(video)
        return seen

    def forward(self, video: Tensor) -> Tensor:
        """As :meth:`look`."""
        queries = self.query_tokens
        patches = self.vision_model(video.to(queries.device, queries.dtype))
        seen: Tensor = self.abstractor(queries, self.temporal_query_tokens, patches)
        return seen

    def merge(self, seen: Tensor, ids: Sequence[Sequence[int]]) -> Conversations:
        """Conversations with what is seen in the place of their video tokens.

        Args:
            seen: [B, 65, width], of :meth:`look`.
            ids: B conversations; each has 65 times ``VIDEO_TOKEN``, and no other id below 0.

        Raises:
            ValueError: Another number of conversations, or of video tokens in one.
        """
        count, length = seen.shape[:2]
        found = [row.count(VIDEO_TOKEN) for row in map(list, ids)]
        if found != [length] * count:
            raise ValueError(f"{count} conversations have {length} video tokens each, not {found}")
        longest = max(map(len, ids))
        rows = torch.tensor([[*row, *[0] * (longest - len(row))] for row in ids])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
        embed = self.language_model.get_input_embeddings()
        embeddings = embed(rows.clamp(min=0).to(seen.device))
        places = (rows < 0).to(embeddings.device)[:, :, None]
        # Filled row by row, in which the clips have the same order.
        merged = embeddings.masked_scatter(places, seen.to(embeddings))
        return Conversations(merged, mask.to(embeddings.device))

    def next_logits(self, seen: Tensor, ids: Sequence[Sequence[int]]) -> Tensor:
        """float32 [B, vocabulary] of the token after each conversation; as :meth:`merge`."""
        read = self.merge(seen, ids)
        states = self.language_model.model(
            inputs_embeds=read.embeddings, attention_mask=read.mask, use_cache=False
        ).last_hidden_state
        ends = read.mask.sum(dim=1).to(states.device) - 1
        last = states[torch.arange(len(states), device=states.device), ends]
        logits: Tensor = self.language_model.lm_head(last)
        return logits.float()


def abstractor_width(stated: int) -> int:
    """The inner width of an abstractor's layer for the ``intermediate_size`` that is stated."""
    # 2816 is what 4096 gives: both are in published configurations.
    return stated if stated == 2816 else 256 * -(-int(2 * stated / 3) // 256)


def quick_gelu(x: Tensor) -> Tensor:
    """GELU by a sigmoid, as in CLIP."""
    return x * torch.sigmoid(1.702 * x)
