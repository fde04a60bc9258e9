"""Folders as transformers saves models, with weights that are a function of their names.

Tiny, or with the sizes of what is published; in the layout of transformers 5, or in the older one
that most of the Hugging Face Hub still has: ``pytorch_model.bin``, sizes of pictures as one number,
``vocab.json`` and ``merges.txt``. No published vocabulary is here: that of CLIP has the 256 bytes
and some English words, that of BLIP letters and the same words, and the rest of a real size is
filled up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForImageTextRetrieval,
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
)

from tests.networks.det_weights import det_array

MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]
BICUBIC = 3
CLIP_VOCABULARY, BLIP_VOCABULARY = 49408, 30524
_SENTENCES = (
    "a the an of in on at and with is red green blue white black cat dog ball man woman person "
    "running walking runs run grass sky water video photo city street night sea tree car snow"
)
WORDS = tuple(_SENTENCES.split())
_BOS, _EOS = "<|startoftext|>", "<|endoftext|>"
_TINY_TOWER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_TINY_PICTURES = {**_TINY_TOWER, "image_size": 32, "patch_size": 8}


def write_clip(folder: Path, *, real_size: bool = False, older: bool = False) -> Path:
    """``CLIPModel``: tiny, or with the sizes of openai/clip-vit-base-patch32."""
    tokenizer, vocabulary, merges = _clip_tokenizer(CLIP_VOCABULARY if real_size else 0)
    # Older files of OpenAI's models say 2, whatever the last token is.
    last = 2 if older else vocabulary[_EOS]
    text: dict[str, Any] = {
        "vocab_size": len(vocabulary),
        "max_position_embeddings": 77,
        "bos_token_id": 0 if older else vocabulary[_BOS],
        "eos_token_id": last,
        "pad_token_id": 1 if older else vocabulary[_EOS],
    }
    config = (
        CLIPConfig(text_config=text, vision_config={})
        if real_size
        else CLIPConfig(
            text_config=text | _TINY_TOWER, vision_config=_TINY_PICTURES, projection_dim=16
        )
    )
    write_model(folder, CLIPModel, config, "clip", older=older)
    side = config.vision_config.image_size
    if older:
        write_json(folder / "vocab.json", vocabulary)
        lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
        (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        tokens = {"unk_token": _EOS, "bos_token": _BOS, "eos_token": _EOS, "pad_token": _EOS}
        write_json(folder / "special_tokens_map.json", tokens)
        write_json(folder / "tokenizer_config.json", {**tokens, "model_max_length": 77})
        write_json(
            folder / "preprocessor_config.json",
            {
                "feature_extractor_type": "CLIPFeatureExtractor",
                "size": side,
                "crop_size": side,
                "do_resize": True,
                "do_center_crop": True,
                "do_normalize": True,
                "resample": BICUBIC,
                "image_mean": MEAN,
                "image_std": STD,
            },
        )
    else:
        tokenizer.save_pretrained(folder)
        write_processor(
            folder,
            "CLIP",
            size={"shortest_edge": side},
            crop_size={"height": side, "width": side},
            do_center_crop=True,
        )
    return folder


def write_pickscore(
    folder: Path, processor: Path | None = None, *, real_size: bool = False
) -> Path:
    """``CLIPModel`` with GELU, its tokenizer and image processor in ``processor`` if that is given.

    The sizes are tiny, or those of CLIP ViT-H/14: 986 million weights, 3.9 GB.
    """
    tokenizer, vocabulary, _ = _clip_tokenizer(CLIP_VOCABULARY if real_size else 0)
    text: dict[str, Any] = {
        "vocab_size": len(vocabulary),
        "max_position_embeddings": 77,
        "bos_token_id": vocabulary[_BOS],
        "eos_token_id": vocabulary[_EOS],
        "pad_token_id": vocabulary[_EOS],
        "hidden_act": "gelu",
    }
    if real_size:
        text |= _tower(1024, 24, 16)
        pictures = _tower(1280, 32, 16) | {"image_size": 224, "patch_size": 14}
    else:
        text |= _TINY_TOWER
        pictures = dict(_TINY_PICTURES)
    config = CLIPConfig(
        text_config=text,
        vision_config=pictures | {"hidden_act": "gelu"},
        projection_dim=1024 if real_size else 24,
    )
    write_model(folder, CLIPModel, config, "pickscore")
    beside = processor or folder
    beside.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(beside)
    side = pictures["image_size"]
    write_processor(
        beside,
        "CLIP",
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        do_center_crop=True,
    )
    return folder


def write_blip(folder: Path, *, real_size: bool = False, older: bool = False) -> Path:
    """``BlipForImageTextRetrieval``: tiny, or with the sizes of Salesforce/blip-itm-base-coco."""
    names = _bert_names(BLIP_VOCABULARY if real_size else 0)
    ids = {name: index for index, name in enumerate(names)}
    text: dict[str, Any] = {
        "vocab_size": len(names),
        "pad_token_id": ids["[PAD]"],
        "bos_token_id": ids["[DEC]"],
        "eos_token_id": ids["[SEP]"],
        "sep_token_id": ids["[SEP]"],
    }
    if real_size:
        text |= {"num_attention_heads": 12, "max_position_embeddings": 512}
        config = BlipConfig(text_config=text, vision_config={"image_size": 384})
    else:
        text |= _TINY_TOWER | {"encoder_hidden_size": 32, "max_position_embeddings": 64}
        config = BlipConfig(
            text_config=text, vision_config=_TINY_PICTURES, image_text_hidden_size=16
        )
    write_model(folder, BlipForImageTextRetrieval, config, "blip_itm", older=older)
    side = config.vision_config.image_size
    size = {"height": side, "width": side}
    if older:
        (folder / "vocab.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        write_json(
            folder / "tokenizer_config.json",
            {"do_lower_case": True, "model_max_length": 512, "tokenizer_class": "BertTokenizer"},
        )
        write_json(
            folder / "preprocessor_config.json",
            {
                "image_processor_type": "BlipImageProcessor",
                "size": size,
                "resample": BICUBIC,
                "image_mean": MEAN,
                "image_std": STD,
            },
        )
    else:
        tokenizer = BertTokenizer(vocab=ids, do_lower_case=True, model_max_length=512)
        tokenizer.save_pretrained(folder)
        write_processor(folder, "Blip", size=size)
    return folder


def write_siglip(folder: Path, *, places: int = 16) -> Path:
    """A tiny ``SiglipModel``; words that it does not know are one token."""
    vocabulary = {name: index for index, name in enumerate(["<unk>", "</s>", *WORDS])}
    text = {"vocab_size": len(vocabulary), "max_position_embeddings": places}
    ends = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 1}
    config = SiglipConfig(
        text_config=text | _TINY_TOWER | ends | {"projection_size": 32},
        vision_config=_TINY_PICTURES,
    )
    write_model(folder, SiglipModel, config, "siglip")
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", eos_token="</s>", pad_token="</s>"
    ).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    write_processor(folder, "Siglip", size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    return folder


def write_model(
    folder: Path, model_class: Any, config: Any, tag: str, *, older: bool = False
) -> None:
    """``config.json`` and the weights of a model of any class and configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    config.architectures = [model_class.__name__]
    config.save_pretrained(folder)
    with torch.device("meta"):
        model = model_class(config)
    state = {
        key: torch.from_numpy(det_array(tag, key, tuple(tensor.shape))).reshape(tensor.shape)
        for key, tensor in model.state_dict().items()
    }
    if older:
        # What older releases wrote, and newer ones count for themselves.
        for name, buffer in model.named_buffers():
            if name.endswith("position_ids"):
                state[name] = torch.arange(buffer.shape[-1])[None]
        torch.save(state, folder / "pytorch_model.bin")
    else:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def write_processor(folder: Path, kind: str, **settings: Any) -> None:
    """``processor_config.json`` with an image processor of a kind, such as ``CLIP``."""
    usual: dict[str, Any] = {
        "do_convert_rgb": True,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
        "image_processor_type": f"{kind}ImageProcessor",
        "resample": BICUBIC,
        "rescale_factor": 1 / 255,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "processor_config.json",
        {"image_processor": usual | settings, "processor_class": f"{kind}Processor"},
    )


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


def _tower(width: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }


def _clip_tokenizer(
    size: int,
) -> tuple[CLIPTokenizer, dict[str, int], list[tuple[str, str]]]:
    """A byte-pair tokenizer with WORDS as tokens; the last two ids begin and end a text.

    Args:
        size: Tokens in all, filled up with ones that nothing gives; 0 for no more than are needed.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = list(dict.fromkeys(pair for word in WORDS for pair in _word_merges(word)))
    names = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    names = list(dict.fromkeys(names))
    names += _fillers(size - 2 - len(names))
    vocabulary = {name: index for index, name in enumerate([*names, _BOS, _EOS])}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)
    return tokenizer, vocabulary, merges


def _word_merges(word: str) -> Iterable[tuple[str, str]]:
    pieces = [*word[:-1], f"{word[-1]}</w>"]
    for end in range(1, len(pieces)):
        yield "".join(pieces[:end]), pieces[end]


def _bert_names(size: int) -> list[str]:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, ".", ","]
    names += [*(f"##{letter}" for letter in letters), *(word for word in WORDS if len(word) > 1)]
    return [*names, *_fillers(size - 2 - len(names)), "[DEC]", "[ENC]"]


def _fillers(count: int) -> list[str]:
    return [f"[unused{index}]" for index in range(count)]
