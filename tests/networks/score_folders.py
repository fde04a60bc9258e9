"""Tiny VideoScore and VideoScore2 folders in the layout that is published.

That is the older one: weights in shards with an index, an image processor in a file of its own,
and a configuration with the names of transformers 4. The weights are those of the goldens, or a
function of their names.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from torch import Tensor

from tests.networks.chat_models import write_qwen2_5_vl
from tests.networks.model_folders import write_json
from tests.networks.vision_goldens import GOLDENS

KIT = GOLDENS / "tiny-idefics2-score"
BILINEAR = 2
SIGNS = ("<unk>", "<s>", "</s>", "<fake_token_around_image>", "<image>", "<end_of_utterance>")


def write_videoscore(folder: Path, *, shards: int = 2, llama: bool = False) -> Path:
    """The tiny model of the goldens: pictures of 28 to 56 pixels a side, 4 tokens each.

    Args:
        folder: A new folder.
        shards: Files that the weights are in.
        llama: Whether the tokenizer is of LLaMA's kind, as those published: a text begins with
            ``<s>``, and spaces are signs. Else it is the golden's, which knows ASCII and gives
            ``<unk>``, token 0, for all else.
    """
    folder.mkdir(parents=True)
    write_shards(folder, load_file(KIT / "model.safetensors"), shards)
    write_json(folder / "config.json", _older_config())
    write_json(
        folder / "preprocessor_config.json",
        {
            "do_convert_rgb": True,
            "do_image_splitting": False,
            "do_normalize": True,
            "do_pad": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "Idefics2ImageProcessor",
            "image_std": [0.5, 0.5, 0.5],
            "processor_class": "Idefics2Processor",
            "resample": BILINEAR,
            "rescale_factor": 1 / 255,
            "size": {"longest_edge": 56, "shortest_edge": 28},
        },
    )
    write_json(
        folder / "processor_config.json",
        {"image_seq_len": 4, "processor_class": "Idefics2Processor"},
    )
    if llama:
        _llama_tokenizer().save(str(folder / "tokenizer.json"))
    else:
        shutil.copy(KIT / "tokenizer.json", folder)
    _write_tokenizer_settings(folder, "LlamaTokenizer" if llama else "PreTrainedTokenizerFast")
    return folder


def write_videoscore2(folder: Path, *, width: int = 32) -> Path:
    """A tiny Qwen2.5-VL that writes many digits.

    ``width`` is that of its language model. Its ``generation_config.json``, if that were heeded,
    would have it say nothing twice.
    """
    write_qwen2_5_vl(folder, width=width)
    path = folder / "model.safetensors"
    state = load_file(path)
    tokens = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    state["lm_head.weight"][[tokens[digit] for digit in "12345"]] *= 2
    save_file(state, path, metadata={"format": "pt"})
    write_json(
        folder / "generation_config.json",
        {"do_sample": True, "repetition_penalty": 5.0, "temperature": 0.1, "top_k": 1},
    )
    return folder


def write_shards(folder: Path, state: Mapping[str, Tensor], shards: int) -> None:
    """Weights in several files, and an index of them."""
    names = sorted(state)
    files: dict[str, str] = {}
    for index in range(shards):
        file = f"model-{index + 1:05}-of-{shards:05}.safetensors"
        part = {name: state[name] for name in names[index::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        files |= dict.fromkeys(part, file)
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": size}, "weight_map": files},
    )


def _older_config() -> dict[str, Any]:
    config: dict[str, Any] = json.loads((KIT / "config.json").read_text(encoding="utf-8"))
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.40.0"
    text = config["text_config"]
    text["rope_theta"] = text.pop("rope_parameters")["rope_theta"]
    del text["head_dim"]
    # It says nothing of its norms there: they have the language model's epsilon.
    for key in ("hidden_size", "rms_norm_eps"):
        del config["perceiver_config"][key]
    for part in ("perceiver_config", "vision_config"):
        config[part]["model_type"] = "idefics2"
    return config


def _llama_tokenizer() -> Tokenizer:
    """Of the golden's vocabulary, with as many tokens."""
    kit = json.loads((KIT / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = kit["model"]["vocab"]
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Replace("▁", " ")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    tokenizer.add_special_tokens([AddedToken(sign, normalized=False) for sign in SIGNS])
    return tokenizer


def _write_tokenizer_settings(folder: Path, kind: str) -> None:
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<unk>", "unk_token": "<unk>"}
    more = {"additional_special_tokens": list(SIGNS[3:])}
    sign = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    decoded = {str(i): {"content": name, **sign, "special": True} for i, name in enumerate(SIGNS)}
    write_json(folder / "special_tokens_map.json", {**more, **named})
    write_json(
        folder / "tokenizer_config.json",
        {
            **more,
            **named,
            "added_tokens_decoder": decoded,
            "clean_up_tokenization_spaces": False,
            "legacy": False,
            # What transformers 4 wrote for "no limit".
            "model_max_length": 10**30,
            "processor_class": "Idefics2Processor",
            "tokenizer_class": kind,
        },
    )
