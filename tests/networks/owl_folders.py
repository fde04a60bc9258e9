"""Folders as mPLUG-Owl-Video's models were published in 2023, with the weights of its goldens.

The tokenizer is a SentencePiece model of LLaMA's kind, made here from a few sentences: bytes for
what it does not know, digits one by one, and a mark of the word's beginning before every text. It
needs more tokens than the goldens' model has, so the embeddings are longer: the first 200 rows are
those of the goldens, and the rest are a function of their names.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from aigve_models import videophy, videophy2
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.networks.det_weights import det_array
from tests.networks.model_folders import BICUBIC, MEAN, STD, write_json
from tests.networks.vision_goldens import GOLDENS

FOLDER = GOLDENS / "tiny-mplug-owl-video"
TOKENS = 400
"""That the model knows: some more than the tokenizer has."""
_TEXT = (
    *videophy.SEMANTIC.split("\n"),
    *videophy.PHYSICS.split("\n"),
    *videophy2.SEMANTIC.split("\n"),
    *videophy2.PHYSICS.split("\n"),
    "Yes No Yes No Yes No Yes No",
    "a red ball rolls down a hill, then 1 2 3 4 5 water splashes onto the floor",
)
# What 4.28.1 wrote of every part's configuration, more or less: later releases refuse some of it.
_USUAL: Mapping[str, Any] = {
    "_name_or_path": "",
    "add_cross_attention": False,
    "architectures": None,
    "bad_words_ids": None,
    "chunk_size_feed_forward": 0,
    "diversity_penalty": 0.0,
    "do_sample": False,
    "early_stopping": False,
    "finetuning_task": None,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "is_decoder": False,
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "length_penalty": 1.0,
    "max_length": 20,
    "num_beams": 1,
    "output_attentions": False,
    "output_hidden_states": False,
    "prefix": None,
    "problem_type": None,
    "pruned_heads": {},
    "repetition_penalty": 1.0,
    "return_dict": True,
    "temperature": 1.0,
    "tf_legacy_loss": False,
    "tie_word_embeddings": True,
    "top_k": 50,
    "torch_dtype": None,
    "torchscript": False,
    "transformers_version": "4.28.1",
    "use_bfloat16": False,
}


def write_owl(
    folder: Path,
    *,
    shards: int = 2,
    pickled: bool = False,
    weights: Mapping[str, Tensor | None] | None = None,
    config: Mapping[str, Any] | None = None,
    ends: int | list[int] = 2,
) -> Path:
    """A tiny model in the layout of the published ones.

    Args:
        folder: Is made.
        shards: Files that the weights are in; 1 has no index.
        pickled: Whether they are torch's own files instead of safetensors.
        weights: What to put in the place of weights, or beside them; None leaves one out.
        config: The same for the keys of ``config.json``; a part's keys are put beside its own.
        ends: ``eos_token_id`` of ``generation_config.json``.
    """
    folder.mkdir(parents=True)
    changed = {**owl_weights(), **(weights or {})}
    state = {key: tensor for key, tensor in changed.items() if tensor is not None}
    _write_weights(folder, state, shards=shards, pickled=pickled)
    stated = owl_config()
    for key, value in (config or {}).items():
        stated[key] = {**stated[key], **value} if isinstance(value, Mapping) else value
    write_json(folder / "config.json", stated)
    write_json(
        folder / "generation_config.json",
        {
            "bos_token_id": 1,
            "do_sample": True,
            "eos_token_id": ends,
            "max_length": 512,
            "pad_token_id": 0,
            "top_k": 3,
            "transformers_version": "4.28.1",
        },
    )
    side = owl_config()["vision_config"]["image_size"]
    write_json(
        folder / "preprocessor_config.json",
        {
            "crop_size": side,
            "do_center_crop": True,
            "do_normalize": True,
            "do_resize": True,
            "feature_extractor_type": "CLIPFeatureExtractor",
            "image_mean": MEAN,
            "image_processor_type": "CLIPImageProcessor",
            "image_std": STD,
            "resample": BICUBIC,
            "size": side,
        },
    )
    (folder / "tokenizer.model").write_bytes(owl_tokenizer())
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    write_json(folder / "special_tokens_map.json", tokens)
    write_json(
        folder / "tokenizer_config.json",
        {
            **tokens,
            "add_bos_token": True,
            "add_eos_token": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": 2048,
            "tokenizer_class": "LlamaTokenizer",
        },
    )
    return folder


def owl_weights() -> dict[str, Tensor]:
    """The weights of the goldens' model, with the rows of more tokens."""
    state = dict(load_file(FOLDER / "model.safetensors"))
    for part in ("model.embed_tokens", "lm_head"):
        key = f"language_model.{part}.weight"
        known, width = state[key].shape
        more = torch.from_numpy(det_array("owl", key, (TOKENS - known, width)))
        # Of the size of the goldens' own.
        state[key] = torch.cat([state[key], more * (state[key].std() / more.std())])
    return state


def owl_config() -> dict[str, Any]:
    """``config.json`` as it was published, of the goldens' sizes."""
    sizes = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    kinds = {
        "vision_config": "mplug_owl_vision_model",
        "visual_abstractor_config": "mplug_owl_visual_abstract",
        "text_config": "llama",
    }
    parts = {key: {**_USUAL, **sizes[key], "model_type": kind} for key, kind in kinds.items()}
    # As LLaMA's was written when it was new.
    parts["text_config"] |= {"vocab_size": TOKENS, "pad_token_id": -1, "max_sequence_length": 512}
    return {
        **_USUAL,
        "architectures": ["MplugOwlForConditionalGeneration"],
        "hidden_size": 4096,
        "initializer_range": 0.02,
        "model_type": "mplug-owl",
        "num_query_tokens": 64,
        "pad_token_id": 2,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_decoder_only_language_model": True,
        **parts,
    }


@cache
def owl_tokenizer() -> bytes:
    """A ``tokenizer.model``."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_TEXT),
        model_writer=written,
        model_type="bpe",
        vocab_size=TOKENS - 10,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        # Errors only.
        minloglevel=2,
    )
    return written.getvalue()


def _write_weights(
    folder: Path, state: Mapping[str, Tensor], *, shards: int, pickled: bool
) -> None:
    stem, suffix = ("pytorch_model", "bin") if pickled else ("model", "safetensors")
    names = sorted(state)
    files = {}
    for shard in range(shards):
        name = (
            f"{stem}-{shard + 1:05}-of-{shards:05}.{suffix}" if shards > 1 else f"{stem}.{suffix}"
        )
        part = {key: state[key] for key in names[shard::shards]}
        files |= dict.fromkeys(part, name)
        if pickled:
            torch.save(part, folder / name)
        else:
            save_file(part, folder / name, metadata={"format": "pt"})
    if shards > 1:
        size = sum(tensor.nbytes for tensor in state.values())
        index = {"metadata": {"total_size": size}, "weight_map": files}
        write_json(folder / f"{stem}.{suffix}.index.json", index)
