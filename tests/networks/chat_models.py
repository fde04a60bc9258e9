"""Tiny chat models as transformers saves them: Qwen2.5-VL, Qwen3-VL and a text-only Qwen2.

Their weights are a function of their names, their tokens the 256 bytes, the signs of Qwen's chats
and four words, so whatever they answer is the same everywhere. What they answer means nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from tokenizers import pre_tokenizers
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from tests.networks.model_folders import MEAN, STD, write_json, write_model

END, PAD = "<|im_end|>", "<|endoftext|>"
IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"
SIGNS = (PAD, "<|im_start|>", END, "<|vision_start|>", "<|vision_end|>", IMAGE, VIDEO)
MERGES = [("y", "e"), ("ye", "s"), ("Y", "e"), ("Ye", "s"), ("n", "o"), ("N", "o")]
WORDS = ("yes", "Yes", "no", "No")
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As the published templates, without tools and without a system message of their own."""
_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
_VISION = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4}


def write_qwen2_5_vl(folder: Path, *, width: int = 32) -> Path:
    """``Qwen2_5_VLForConditionalGeneration``; patches of 14 pixels.

    Args:
        folder: Is made.
        width: Of the language model, a multiple of 16: at 32 it has 0.1 million weights in all.
    """
    ids = _write_tokenizer(folder)
    sections = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10_000.0}
    heads = {"num_attention_heads": width // 8, "num_key_value_heads": width // 16}
    config = Qwen2_5_VLConfig(
        text_config={
            **_TEXT,
            **_ends(ids),
            **heads,
            "hidden_size": width,
            "vocab_size": len(ids),
            "rope_parameters": sections,
        },
        vision_config={
            **_VISION,
            "out_hidden_size": width,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        },
        **_picture_ids(ids),
    )
    _write_weights(folder, Qwen2_5_VLForConditionalGeneration, config, ids)
    _write_vision(folder, "Qwen2_5_VLProcessor", patch=14, mean=MEAN, std=STD)
    return folder


def write_qwen3_vl(folder: Path) -> Path:
    """``Qwen3VLForConditionalGeneration``: 0.2 million weights; patches of 16 pixels."""
    ids = _write_tokenizer(folder)
    sections = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10_000.0}
    config = Qwen3VLConfig(
        text_config={
            **_TEXT,
            **_ends(ids),
            "head_dim": 8,
            "vocab_size": len(ids),
            "rope_parameters": sections,
        },
        vision_config={
            **_VISION,
            "out_hidden_size": 32,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0, 1],
        },
        **_picture_ids(ids),
    )
    _write_weights(folder, Qwen3VLForConditionalGeneration, config, ids)
    _write_vision(folder, "Qwen3VLProcessor", patch=16, mean=[0.5] * 3, std=[0.5] * 3)
    return folder


def write_qwen2(folder: Path) -> Path:
    """``Qwen2ForCausalLM``: reads no pictures."""
    ids = _write_tokenizer(folder)
    config = Qwen2Config(**_TEXT, **_ends(ids), vocab_size=len(ids))
    _write_weights(folder, Qwen2ForCausalLM, config, ids)
    return folder


def _write_weights(folder: Path, model_class: Any, config: Any, ids: dict[str, int]) -> None:
    """Weights of a model that says no sign but END: pictures are not for it to write."""
    write_model(folder, model_class, config, config.model_type)
    path = folder / "model.safetensors"
    state = load_file(path)
    silent = [ids[sign] for sign in SIGNS if sign != END]
    state["lm_head.weight"][silent] = 0
    save_file(state, path, metadata={"format": "pt"})


def _write_tokenizer(folder: Path) -> dict[str, int]:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*letters, *("".join(pair) for pair in MERGES), *SIGNS]
    ids = {name: index for index, name in enumerate(names)}
    tokenizer = Qwen2Tokenizer(
        vocab={name: index for name, index in ids.items() if name not in SIGNS},
        merges=MERGES,
        unk_token=None,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=list(SIGNS),
        model_max_length=4096,
    )
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    given = {name: tokenizer.convert_tokens_to_ids(name) for name in SIGNS}
    return {**ids, **given}


def _ends(ids: dict[str, int]) -> dict[str, int]:
    return {"bos_token_id": ids[PAD], "eos_token_id": ids[END], "pad_token_id": ids[PAD]}


def _picture_ids(ids: dict[str, int]) -> dict[str, Any]:
    return {
        "image_token_id": ids[IMAGE],
        "video_token_id": ids[VIDEO],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "tie_word_embeddings": False,
    }


def _write_vision(
    folder: Path, processor: str, *, patch: int, mean: list[float], std: list[float]
) -> None:
    """The files that the published folders have: their processors in two files of their own."""
    merged = (2 * patch) ** 2
    usual: dict[str, Any] = {
        "patch_size": patch,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "size": {"shortest_edge": merged, "longest_edge": 16 * merged},
        "image_mean": mean,
        "image_std": std,
        "processor_class": processor,
    }
    write_json(
        folder / "preprocessor_config.json",
        {**usual, "image_processor_type": "Qwen2VLImageProcessor"},
    )
    video = "Qwen3VLVideoProcessor" if "3VL" in processor else "Qwen2VLVideoProcessor"
    # Of a whole video, where the size of a picture is of one: as published.
    size = {"shortest_edge": 2 * merged, "longest_edge": 16 * 64 * merged}
    write_json(
        folder / "video_preprocessor_config.json",
        {**usual, "size": size, "video_processor_type": video},
    )
