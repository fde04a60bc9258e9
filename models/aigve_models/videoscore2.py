"""VideoScore2: a vision-language model that thinks about a video and its prompt, and then rates it.

Paper: He et al., VideoScore2: Think before You Score in Generative Video Evaluation, 2025
(arXiv:2509.22799). Reference: https://github.com/TIGER-AI-Lab/VideoScore2, commit e6abe26, and the
model card of TIGER-Lab/VideoScore2 (Apache-2.0): Qwen2.5-VL, here in the layers and with the
processors of transformers (Apache-2.0).

Different here: the text is that of the model card. The repository's ``vs2_inference.py`` has the
same with each line indented by four spaces, and a blank behind ``<v_score>;`` and ``<t_score>,``.
The likeliest answer is given, where the reference samples at a temperature of 0.7 and without a
seed; a variant samples, with one. What ``generation_config.json`` says of sampling and repetitions
is not heeded. How likely digits were is what the model gives, where the reference looks behind the
temperature. Weights that do not fit to the last tensor are refused. As in the reference, which runs
transformers 4.53, and unlike transformers since 5.3, what follows a video begins behind all of the
video's places, those in time too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn

from aigve_models import chat_vlm
from aigve_models._answers import DIGITS, DigitWatcher, Record, written_to_record
from aigve_models._pretrained import ON_CPU, Placement, folder_to_config
from aigve_models.chat_vlm import ChatModel, Film, Turn

KIND = "qwen2_5_vl"
FPS = 2.0
"""Frames a second: those that the weights were trained on, and what the model is told."""
MAX_TOKENS = 1024
"""An answer is cut off there."""
PROMPT = "$t2v_prompt"
QUERY = (
    "\nYou are an expert for evaluating AI-generated videos from three dimensions:\n"
    "(1) visual quality – clarity, smoothness, artifacts;\n"
    "(2) text-to-video alignment – fidelity to the prompt;\n"
    "(3) physical/common-sense consistency – naturalness and physics plausibility.\n"
    "\n"
    f"Video prompt: {PROMPT}\n"
    "\n"
    "Please output in this format:\n"
    "visual quality: <v_score>;\n"
    "text-to-video alignment: <t_score>,\n"
    "physical/common-sense consistency: <p_score>\n"
)
"""With en dashes; ``PROMPT`` stands for the video's own prompt."""
_VARIANT = re.compile(r"temperature=(\d{1,3}(?:\.\d{1,6})?),seed=(\d{1,18})")
_NUMBERS: Mapping[Any, str] = {
    torch.float32: "float32",
    torch.bfloat16: "bfloat16",
    "auto": "",
}
"""Variants of chat models, by the type of numbers that they stand for."""


class Sampling(NamedTuple):
    """How answers are drawn."""

    temperature: float
    """More than 0."""
    seed: int


class VideoScore2(nn.Module):
    """A video and its prompt to an answer. It has a ``with_text`` and no forward."""

    def __init__(self, chat: ChatModel, sampling: Sampling | None) -> None:
        """Put together what ``load`` has read.

        Args:
            chat: The model and its processor.
            sampling: None for the likeliest answer.

        Raises:
            ValueError: A digit is no token of the model's.
        """
        super().__init__()
        self.chat = chat
        self._sampling = sampling
        self._digits = {digit: self._digit_to_tokens(digit) for digit in DIGITS}
        model: Any = chat.model
        # What transformers asks for the places of tokens, in forwards and in generate().
        model.model.get_rope_index = partial(ids_to_places, config=model.config)

    @torch.inference_mode()
    def with_text(self, clips: Tensor, texts: tuple[str, ...]) -> dict[str, list[Record]]:
        """Videos, each seen together with its prompt, to ``answers``: B records.

        Args:
            clips: float32 [B, 3, T, H, W], RGB, 0..255, whole numbers; T even; two frames a second.
                The folder's processor resizes and normalises them.
            texts: B prompts: what the videos were made from.

        Returns:
            ``answers``: of each video what :func:`written_to_record` says of its answer.

        Raises:
            ValueError: Other clips, another number of prompts, a prompt that holds a sign of chats,
                or a conversation that is too long for the model.
        """
        if clips.ndim != 5 or clips.shape[1] != 3 or clips.shape[2] % 2 or not clips.shape[2]:
            raise ValueError(
                # The processor would show the last frame twice without a word.
                f"clips are [B, 3, T, H, W] with an even T, not {list(clips.shape)}"
            )
        if len(texts) != len(clips):
            raise ValueError(f"{len(clips)} videos need as many texts, not {len(texts)}")
        pairs = zip(clips, texts, strict=True)
        return {"answers": [self._answer(clip_to_frames(clip), text) for clip, text in pairs]}

    def _answer(self, frames: NDArray[np.uint8], prompt: str) -> Record:
        turn = Turn("user", (Film(frames, FPS), prompt_to_text(prompt)))
        inputs = self.chat.inputs([turn])
        read = int(inputs["input_ids"].shape[1])
        model: Any = self.chat.model
        places = int(model.config.get_text_config().max_position_embeddings)
        if read >= places:
            raise ValueError(f"it has {read} tokens, and the model has places for {places}.")
        watcher = DigitWatcher(self._digits)
        drawn: dict[str, Any] = {"do_sample": False}
        if self._sampling:
            # Without top_k transformers leaves out all but the 50 likeliest tokens.
            drawn = {"do_sample": True, "temperature": self._sampling.temperature}
            drawn |= {"top_k": 0, "top_p": 1.0}
        with _seeded(self._sampling, inputs["input_ids"].device):
            written = model.generate(
                **inputs,
                max_new_tokens=min(MAX_TOKENS, places - read),
                # These come before the temperature.
                logits_processor=transformers.LogitsProcessorList([watcher]),
                **drawn,
            )[0, read:].tolist()
        return written_to_record(
            written,
            watcher.probabilities()[0],
            tokens=self._digits,
            ends=model.generation_config.eos_token_id,
            decode=self._decode,
        )

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self.chat.tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def _digit_to_tokens(self, digit: str) -> list[int]:
        spelled = [
            self.chat.tokenizer.encode(text, add_special_tokens=False)
            for text in (digit, f" {digit}")
        ]
        tokens = [ids[0] for ids in spelled if len(ids) == 1]
        if not tokens:
            raise ValueError(f"the digit {digit} is no token of its tokenizer.")
        return tokens


def prompt_to_text(prompt: str) -> str:
    """What is said of a video, behind its frames."""
    return QUERY.replace(PROMPT, prompt)


def ids_to_places(
    input_ids: Tensor, *given: Any, config: Any, **named: Any
) -> tuple[Tensor, Tensor]:
    """The places of a conversation's tokens in time, height and width.

    A video's begin where it stands in the text; the text behind it goes on one further than the
    last of all its places. Later releases of transformers go on behind its height and width alone,
    so that a video of many frames and few pixels reaches into the text, and one of them had other
    places within a video too.

    Args:
        input_ids: int64 [1, L], with the tokens of one video.
        config: The model's.
        given: What transformers knows of the conversation, in an order that depends on its release.
        named: The same by name. ``video_grid_thw`` is read, int64 [1, 3]: the video's patches in
            time, height and width; nothing else has three columns.

    Returns:
        int64 [3, 1, L], and [1, 1]: how much further than its own number the next token is.
    """
    vision = config.vision_config
    merge = vision.spatial_merge_size
    (grid,) = (
        tensor
        for tensor in (*given, named.get("video_grid_thw"))
        if isinstance(tensor, Tensor) and tensor.ndim == 2 and tensor.shape[1] == 3
    )
    times, rows, columns = (int(count) for count in grid[0])
    rows, columns = rows // merge, columns // merge
    begin = int((input_ids[0] == config.video_token_id).nonzero()[0])
    second = int(vision.tokens_per_second * vision.temporal_patch_size / FPS)
    axes = (torch.arange(times) * second, torch.arange(rows), torch.arange(columns))
    seen = torch.stack(torch.meshgrid(*axes, indexing="ij")).reshape(3, -1) + begin
    length = input_ids.shape[1]
    behind = torch.arange(length - begin - seen.shape[1]) + seen.max() + 1
    before = torch.arange(begin)
    places = torch.cat([before.expand(3, -1), seen, behind.expand(3, -1)], dim=1)[:, None]
    further = (places.max() + 1 - length).reshape(1, 1)
    return places.to(input_ids.device), further.to(input_ids.device)


def clip_to_frames(clip: Tensor) -> NDArray[np.uint8]:
    """float32 [3, T, H, W], 0..255, to uint8 [T, H, W, 3].

    Raises:
        ValueError: Numbers that are not whole, or outside.
    """
    frames = clip.permute(1, 2, 3, 0).clamp(0, 255).to(torch.uint8)
    if not torch.equal(frames.to(clip.dtype), clip.permute(1, 2, 3, 0)):
        raise ValueError("frames are whole numbers from 0 to 255")
    shown: NDArray[np.uint8] = frames.cpu().numpy()
    return shown


@contextmanager
def _seeded(sampling: Sampling | None, device: torch.device) -> Iterator[None]:
    """Random numbers of a conversation's own, whatever was drawn before; others' go on after it."""
    if sampling is None:
        yield
        return
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(sampling.seed)
        yield


def load(
    folder: Path, processor: Path, variant: str = "", placement: Placement = ON_CPU
) -> VideoScore2:
    """The network of a folder.

    Args:
        folder: Configuration and weights.
        processor: The tokenizer's files, the chat template and the video processor's.
        variant: Empty for the likeliest answers; ``temperature=T,seed=N`` draws them.
        placement: Where its weights go, and in which type: float32, bfloat16 or ``auto``.

    Raises:
        ValueError: Another variant or type, or not a folder of a model of this kind; the message
            says why.
    """
    sampling = _variant_to_sampling(variant)
    _check_kind(folder)
    if placement.dtype not in _NUMBERS:
        raise ValueError(f"its numbers are float32 or bfloat16, not {placement.dtype}.")
    chat = chat_vlm.load(folder, processor, _NUMBERS[placement.dtype], placement)
    if not chat.sees_films:
        raise ValueError(f"the processor in {processor} has no part for videos.")
    return VideoScore2(chat, sampling)


def folder_to_picture_size(folder: Path) -> None:
    """None: the processor brings frames to sizes of its own, and any is taken.

    Raises:
        ValueError: Not a folder of a model of this kind; the message says why.
    """
    _check_kind(folder)


def _check_kind(folder: Path) -> None:
    kind = folder_to_config(folder).get("model_type")
    if kind != KIND:
        raise ValueError(f"its model_type is '{kind}', not '{KIND}'.")


def _variant_to_sampling(variant: str) -> Sampling | None:
    if not variant:
        return None
    stated = _VARIANT.fullmatch(variant)
    if stated is None or not float(stated[1]):
        raise ValueError(
            f"there is no variant '{variant}': it is empty, or temperature=T,seed=N with T above 0."
        )
    return Sampling(float(stated[1]), int(stated[2]))
