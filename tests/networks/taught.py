"""Tiny models that were taught what to answer about some clips.

A model with random weights writes nonsense. But what its last layer sees differs from clip to clip
and from letter to letter, so that a head can be solved for, by least squares, that makes given
answers the likeliest ones: everything before it stays random, and everything behind it is real.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from aigve_models import videophy2, videoscore2
from aigve_models.chat_vlm import Film, Turn
from safetensors.torch import load_file
from torch import Tensor

from tests.networks.owl_folders import write_owl
from tests.networks.score_folders import write_shards, write_videoscore2

SURE = 10.0
"""The logit of the right token, where those of all others are 0."""


class Lesson(NamedTuple):
    """What is to be said about a clip."""

    clip: Tensor
    """float32 [3, T, H, W], as the network takes it."""
    prompt: str
    answers: Mapping[str, str]
    """By question: ``semantic`` and ``physics``, or ``answer``."""


def write_taught_owl(folder: Path, lessons: Sequence[Lesson]) -> Path:
    """VideoPhy-2 that gives these answers, each without a blank before it."""
    plain = write_owl(folder.with_name(f"{folder.name}-untaught"))
    network = videophy2.load(plain, plain)
    model, tokenizer = network.model, network._tokenizer
    states, targets = [], []
    with torch.inference_mode():
        for lesson in lessons:
            seen = model.look(lesson.clip[None])
            for question, text in (
                ("semantic", videophy2.SEMANTIC),
                ("physics", videophy2.PHYSICS),
            ):
                ids = videophy2.text_to_ids(tokenizer, text, lesson.prompt)
                answer = [tokenizer._pieces.piece_to_id(sign) for sign in lesson.answers[question]]
                read = model.merge(seen, [ids])
                more = model.language_model.get_input_embeddings()(torch.tensor([answer]))
                whole = torch.cat([read.embeddings, more], dim=1)
                hidden = model.language_model.model(inputs_embeds=whole).last_hidden_state
                states.append(hidden[0, len(ids) - 1 :])
                targets += [*answer, tokenizer.end]
    head = solved_head(torch.cat(states), targets, model.language_model.lm_head.out_features)
    return write_owl(folder, weights={"language_model.lm_head.weight": head})


def write_taught_videoscore2(folder: Path, lessons: Sequence[Lesson], *, width: int = 256) -> Path:
    """VideoScore2 that gives these answers; ``width`` is more than all their letters."""
    write_videoscore2(folder, width=width)
    network = videoscore2.load(folder, folder)
    model: Any = network.chat.model
    states, targets = [], []
    with torch.inference_mode():
        for lesson in lessons:
            frames = videoscore2.clip_to_frames(lesson.clip)
            turn = Turn("user", (Film(frames, 2.0), videoscore2.prompt_to_text(lesson.prompt)))
            inputs = network.chat.inputs([turn])
            answer = network.chat.tokenizer.encode(lesson.answers["answer"])
            written = torch.tensor([answer])
            inputs["input_ids"] = torch.cat([inputs["input_ids"], written], dim=1)
            for name in ("attention_mask", "mm_token_type_ids"):
                if name in inputs:
                    more = torch.full_like(written, name == "attention_mask")
                    inputs[name] = torch.cat([inputs[name], more], dim=1)
            hidden = model.model(**inputs).last_hidden_state
            states.append(hidden[0, -len(answer) - 1 :])
            targets += [*answer, network.chat.tokenizer.eos_token_id]
    path = folder / "model.safetensors"
    state = load_file(path)
    state["lm_head.weight"] = solved_head(torch.cat(states), targets, len(state["lm_head.weight"]))
    path.unlink()
    write_shards(folder, state, 2)
    return folder


def solved_head(states: Tensor, targets: Sequence[int], vocabulary: int) -> Tensor:
    """float32 [vocabulary, width] that gives each of states [N, width] its target.

    The smallest such head: what is not a target of any state is never likely.
    """
    wanted = torch.zeros(len(targets), vocabulary, dtype=torch.float64)
    wanted[torch.arange(len(targets)), torch.tensor(targets)] = SURE
    head = torch.linalg.pinv(states.double()) @ wanted
    right = (states.double() @ head).argmax(dim=1)
    assert right.tolist() == list(targets), "too many lessons for this width"
    return head.T.float().contiguous()
