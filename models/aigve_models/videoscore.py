"""VideoScore: a vision-language model with five numbers for a head, of a video and its prompt.

Paper: He et al., VideoScore: Building Automatic Metrics to Simulate Fine-grained Human Feedback for
Video Generation, EMNLP 2024 (arXiv:2406.15252). Reference:
https://github.com/TIGER-AI-Lab/VideoScore, commit 194736f (MIT), which runs
https://github.com/TIGER-AI-Lab/Mantis, commit 0e8a81c (Apache-2.0), here in the layers of
transformers (Apache-2.0). The text around a prompt is that of ``examples/run_videoscore.py``.

Different here: the ratings are read at the last token of the text. The reference reads them in
front of the first token with the id of padding, which is also the id of signs that its tokenizer
does not know. No frame is taken for padding: transformers drops those that are grey all over.
Prompts with signs of the tokenizer are refused, and so are weights that do not fit to the last
tensor. As in the reference, and unlike transformers, the resampler's norms have the language
model's epsilon, and the places of patches are counted in float32 whatever the weights are in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    Idefics2Config,
    Idefics2Model,
    Idefics2PreTrainedModel,
    PreTrainedTokenizerFast,
)

from aigve_models._pretrained import (
    CONFIG,
    ON_CPU,
    Placement,
    check_no_signs,
    check_tokenizer_files,
    folder_to_config,
    folder_to_model,
    folder_to_tokenizer,
    quiet,
    special_signs,
    words_of,
)

KIND = "idefics2"
RATINGS = 5
"""Visual quality, temporal consistency, dynamic degree, text-to-video alignment, factual
consistency: about 1..4, and nothing holds them there."""
PROMPT = "{text_prompt}"
QUERY = (
    "\nSuppose you are an expert in judging and evaluating the quality of AI-generated videos,\n"
    "please watch the following frames of a given video and see the text prompt for generating the "
    "video,\n"
    "then give scores from 5 different dimensions:\n"
    "(1) visual quality: the quality of the video in terms of clearness, resolution, brightness, "
    "and color\n"
    "(2) temporal consistency, both the consistency of objects or humans and the smoothness of "
    "motion or movements\n"
    "(3) dynamic degree, the degree of dynamic changes\n"
    "(4) text-to-video alignment, the alignment between the text prompt and the video content\n"
    "(5) factual consistency, the consistency of the video content with the common-sense and "
    "factual knowledge\n"
    "\n"
    "for each dimension, output a float number from 1.0 to 4.0,\n"
    "the higher the number is, the better the video performs in that sub-score, \n"
    "the lowest 1.0 means Bad, the highest 4.0 means Perfect/Real (the video is like a real "
    "video)\n"
    "Here is an output example:\n"
    "visual quality: 3.2\n"
    "temporal consistency: 2.7\n"
    "dynamic degree: 4.0\n"
    "text-to-video alignment: 2.3\n"
    "factual consistency: 1.8\n"
    "\n"
    f'For this video, the text prompt is "{PROMPT}",\n'
    "all the frames of video are as follows:\n"
)
"""What the weights were trained on, to the blank behind ``sub-score,``; ``PROMPT`` stands for the
video's own prompt."""
_IMAGE, _FENCE = "<image>", "<fake_token_around_image>"
_PIXELS_AT_ONCE = 2 * 980 * 980
"""Of the frames that are in the vision tower together, and in the connector, which makes 14,336
numbers of each patch: 2 of the largest that were trained on."""


class PatchEmbeddings(nn.Module):
    """Patches of pictures of any size, with the places of a square grid that they lie nearest to.

    In place of transformers' own, with the same names: many of its releases with the number 5 count
    the places in the type of the weights, and in bfloat16 take most of 70 x 70 patches for their
    neighbours.
    """

    def __init__(self, config: Any) -> None:
        """As large as ``vision_config`` says."""
        super().__init__()
        patch = int(config.patch_size)
        self.side = int(config.image_size) // patch
        self.patch_embedding = nn.Conv2d(config.num_channels, config.hidden_size, patch, patch)
        self.position_embedding = nn.Embedding(self.side**2, config.hidden_size)

    def forward(self, pixel_values: Tensor, patch_attention_mask: Tensor) -> Tensor:
        """[N, 3, H, W] to [N, patches, width]; the mask is not read: every patch is of a frame."""
        patches = self.patch_embedding(pixel_values)  # [N, width, rows, columns]
        rows, columns = (count_to_places(count, self.side) for count in patches.shape[2:])
        places = (rows[:, None] * self.side + columns).flatten().to(patches.device)
        embedded: Tensor = patches.flatten(2).transpose(1, 2) + self.position_embedding(places)
        return embedded


def count_to_places(count: int, side: int) -> Tensor:
    """Where ``count`` patches in a row lie on a grid of ``side``: int64 [count], 0..side - 1.

    In the reference's arithmetic, to the rounding: where a patch begins right on the grid's line,
    it decides.
    """
    step = float(1 / torch.tensor(count, dtype=torch.float32))
    exactly: Any = {"dtype": torch.float32, "device": "cpu"}
    begins = torch.arange(0, 1 - 1e-6, step, **exactly)
    lines = torch.arange(1 / side, 1.0, 1 / side, **exactly)
    return torch.bucketize(begins, lines, right=True)


class Idefics2ForRatings(Idefics2PreTrainedModel):
    """Idefics2 without its words, and a linear head: with the names of the published tensors."""

    def __init__(self, config: Any) -> None:
        """With as many numbers as the configuration has labels."""
        super().__init__(config)
        # The reference never reads the resampler's own. Older files do not state it, and
        # transformers then takes 1e-6, where Idefics2 was trained with 1e-5.
        config.perceiver_config.rms_norm_eps = config.text_config.rms_norm_eps
        self.model = Idefics2Model(config)
        self.model.vision_model.embeddings = PatchEmbeddings(config.vision_config)
        self.score = nn.Linear(config.text_config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, clips: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Videos, each within its text, to their ratings.

        Args:
            clips: float32 [B, 3, T, H, W].
            ids: int64 [B, L]: the tokens of a picture T times.
            mask: int64 [B, L]: 1 for a token of the text, 0 for one that fills it up on the right.

        Returns:
            [B, labels], in the weights' type.
        """
        states = self._clips_to_states(clips)
        embedded = self.model.text_model.get_input_embeddings()(ids)
        of_pictures = (ids == self.config.image_token_id)[..., None].to(embedded.device)
        embedded = embedded.masked_scatter(of_pictures, states.to(embedded))
        read = self.model.text_model(inputs_embeds=embedded, attention_mask=mask, use_cache=False)
        last = (mask.sum(dim=1) - 1).to(read.last_hidden_state.device)
        pooled = read.last_hidden_state[torch.arange(len(last), device=last.device), last]
        ratings: Tensor = self.score(pooled)
        return ratings

    def _clips_to_states(self, clips: Tensor) -> Tensor:
        """[B, 3, T, H, W] to [B * T, latents, width], frame after frame, video after video."""
        height, width = clips.shape[-2:]
        at_once = max(1, _PIXELS_AT_ONCE // (height * width))
        states = []
        for clip in clips:
            for frames in clip.transpose(0, 1).split(at_once):
                seen = self.model.vision_model(pixel_values=frames.to(self.score.weight.dtype))
                patches = seen.last_hidden_state  # [N, patches, width]
                every = torch.ones(patches.shape[:2], dtype=torch.bool, device=patches.device)
                states.append(self.model.connector(patches, attention_mask=every))
        return torch.cat(states)


class VideoScore(nn.Module):
    """A video and its prompt to five ratings. It has a ``with_text`` and no forward."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        """Put together what ``load`` has read."""
        super().__init__()
        self.model = model
        self._tokenizer = tokenizer
        config = model.config
        self._image_id = int(config.image_token_id)
        self._vocabulary = int(config.text_config.vocab_size)
        self._places = int(config.text_config.max_position_embeddings)
        self._latents = int(config.perceiver_config.resampler_n_latents)
        self._patch = int(config.vision_config.patch_size)
        self._signs = special_signs(tokenizer)

    def with_text(self, clips: Tensor, texts: tuple[str, ...]) -> dict[str, Tensor]:
        """Videos, each seen together with its prompt, to ``ratings`` [B, 5].

        Args:
            clips: float32 [B, 3, T, H, W], RGB, as the folder's image processor leaves frames: of
                any size from one patch of 14 pixels up, -1..1. Every frame is read.
            texts: B prompts: what the videos were made from.

        Returns:
            ``ratings``: float32, in the order of ``RATINGS``.

        Raises:
            ValueError: Another shape, another number of prompts, a prompt that holds a sign of the
                tokenizer, or more tokens than the model has places for.
        """
        for text in texts:
            check_no_signs(text, self._signs)
        frames = clips.shape[2] if clips.ndim == 5 else 0
        return {"ratings": self.rate(clips, [prompt_to_text(text, frames) for text in texts])}

    def rate(self, clips: Tensor, texts: list[str]) -> Tensor:
        """Videos and all that is to be read of each to float32 [B, 5].

        Args:
            clips: float32 [B, 3, T, H, W], as :meth:`with_text`.
            texts: B whole texts: ``<image>`` T times, each with something behind it.

        Raises:
            ValueError: As :meth:`with_text`, or another number of pictures in a text.
        """
        shape = list(clips.shape)
        if len(shape) != 5 or shape[1] != 3 or not shape[2] or min(shape[3:]) < self._patch:
            raise ValueError(
                f"clips are [B, 3, T, H, W] with a frame and sides of {self._patch} or more, not "
                f"{shape}"
            )
        if len(texts) != len(clips):
            raise ValueError(f"{len(clips)} videos need as many texts, not {len(texts)}")
        rows = [self.text_to_ids(text) for text in texts]
        for row in rows:
            if row.count(self._image_id) != self._latents * clips.shape[2]:
                raise ValueError(f"{clips.shape[2]} frames need as many {_IMAGE} in a text")
            if len(row) > self._places:
                raise ValueError(
                    f"it has {len(row)} tokens with those of its {clips.shape[2]} frames, and the "
                    f"model has places for {self._places}."
                )
        longest = max(map(len, rows))
        # By length: the id that fills up is that of signs that the tokenizer does not know.
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        ratings: Tensor = self.model(clips, ids.to(clips.device), mask.to(clips.device))
        return ratings.float()

    def text_to_ids(self, text: str) -> list[int]:
        """A whole text as tokens, with as many for each ``<image>`` as the model makes of a frame.

        Raises:
            ValueError: The tokenizer gives a token that the model does not know.
        """
        picture = f"{_FENCE}{_IMAGE * self._latents}{_FENCE}"
        # Without a word about texts longer than the tokenizer would like.
        encoded = self._tokenizer(text.replace(_IMAGE, picture), verbose=False)
        ids: list[int] = encoded["input_ids"]
        if max(ids) >= self._vocabulary:
            raise ValueError(
                f"the tokenizer gives token {max(ids)}, and the model knows only "
                f"{self._vocabulary}: it is another model's."
            )
        return ids


def prompt_to_text(prompt: str, frames: int) -> str:
    """All that is to be read of a video of so many frames."""
    return QUERY.replace(PROMPT, prompt) + f"{_IMAGE} " * frames


def load(
    folder: Path, processor: Path, variant: str = "", placement: Placement = ON_CPU
) -> VideoScore:
    """The network of a folder.

    Args:
        folder: Configuration and weights.
        processor: The tokenizer's files.
        variant: Empty.
        placement: Where its weights go, and in which type.

    Raises:
        ValueError: A variant, or not a folder of a model of this kind; the message says why.
    """
    if variant:
        raise ValueError(f"there is no variant '{variant}': it is empty.")
    # First, as it fails sooner than the weights do.
    tokenizer = _folder_to_tokenizer(processor, _folder_to_config(folder))
    return VideoScore(folder_to_model(folder, Idefics2ForRatings, placement), tokenizer)


def folder_to_picture_size(folder: Path) -> None:
    """None: pictures keep their shape and their size up to a limit, and any is taken.

    Raises:
        ValueError: Not a folder of a model of this kind; the message says why.
    """
    _folder_to_config(folder)


def _folder_to_config(folder: Path) -> Any:
    stated = folder_to_config(folder)
    kind = stated.get("model_type")
    if kind != KIND:
        raise ValueError(
            f"its model_type is '{kind}', not '{KIND}': models called VideoScore that are made of "
            "another one are not read."
        )
    if not stated.get("text_config"):
        raise ValueError(f"its {CONFIG} has no text_config: how large its language model is.")
    try:
        with quiet():
            config = Idefics2Config.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise ValueError(f"its {CONFIG} cannot be read: {words_of(error)}.") from error
    if config.num_labels != RATINGS:
        raise ValueError(f"its {CONFIG} has {config.num_labels} labels, and VideoScore {RATINGS}.")
    return config


def _folder_to_tokenizer(folder: Path, config: Any) -> Any:
    """The tokenizer of ``tokenizer.json`` as it stands there, where there is one.

    transformers 5 makes another one of LLaMA's kind, whatever the file says: of ``<image> `` it
    gives one blank less than the reference's release, and the ratings are read at the last.
    """
    check_tokenizer_files(folder)
    if not (folder / "tokenizer.json").is_file():
        return _checked_tokenizer(folder_to_tokenizer(folder, config), folder, config)
    try:
        with quiet():
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise ValueError(f"the tokenizer in {folder} cannot be read: {words_of(error)}.") from error
    return _checked_tokenizer(tokenizer, folder, config)


def _checked_tokenizer(tokenizer: Any, folder: Path, config: Any) -> Any:
    known = tokenizer.get_vocab()
    if known.get(_IMAGE) != config.image_token_id or _FENCE not in known:
        raise ValueError(
            f"the tokenizer in {folder} has not both {_IMAGE}, as token {config.image_token_id}, "
            f"and {_FENCE}: it is another model's."
        )
    return tokenizer
