"""Language models that answer in a chat, most of them about pictures and videos too.

Whatever transformers (Apache-2.0) knows as an image-text-to-text model or as a causal language
model, with its own layers and processors. Papers of those that the card names: Bai et al.,
Qwen2.5-VL Technical Report, 2025 (arXiv:2502.13923); Bai et al., Qwen3-VL Technical Report, 2025
(arXiv:2511.21631).

Different here: an answer is the likeliest one, token by token. What ``generation_config.json`` says
about sampling and repetitions is not heeded, only which tokens end an answer. Frames of a video are
not sampled again. Weights that do not fit to the last tensor are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from aigve_models._pretrained import (
    ON_CPU,
    Placement,
    check_no_signs,
    check_tokenizer_files,
    folder_to_config,
    folder_to_ends,
    folder_to_model,
    quiet,
    special_signs,
    words_of,
)

LIKELIEST = 20
"""First tokens whose probabilities are given: as many as OpenAI's protocol allows."""
_TYPES: Mapping[str, torch.dtype | str] = {
    "": "auto",
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
}
"""By variant; ``auto`` is what the folder's weights are in."""


class Film(NamedTuple):
    """A video: all of its frames reach the model."""

    frames: NDArray[np.uint8]
    """RGB [T, h, w, 3]."""
    fps: float


Part = str | Image.Image | Film


class Turn(NamedTuple):
    """What one side says."""

    role: str
    """``system``, ``user`` or ``assistant``."""
    parts: tuple[Part, ...]
    """In the order in which the model reads them."""


class Said(NamedTuple):
    """An answer."""

    text: str
    finish: str
    """``stop``; ``length``: cut off; ``stopped``: nobody waits for it any longer."""
    first_token: Mapping[str, float]
    """Natural log-probabilities of the likeliest first tokens, by their text."""
    tokens_read: int
    tokens_written: int


class BlindError(ValueError):
    """The model does not see what the conversation shows, so it sees none of its kind."""


class ChatModel(nn.Module):
    """A model, its processor, and one conversation at a time."""

    def __init__(self, model: Any, processor: Any, *, ends: Sequence[int]) -> None:
        """Put together what ``load`` has read.

        Args:
            model: One of transformers' models with ``generate``.
            processor: Its processor, or the tokenizer of a model that reads texts only.
            ends: Tokens that end an answer.
        """
        super().__init__()
        self.model = model
        self._processor = processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self._reads_texts_only = self.tokenizer is processor
        self._ends = tuple(ends)
        fill = self.tokenizer.pad_token_id
        # Settings that are not given to generate() are taken from the model's own.
        model.generation_config = transformers.GenerationConfig(
            do_sample=False,
            num_beams=1,
            eos_token_id=list(ends),
            pad_token_id=ends[0] if fill is None else fill,
        )

    @property
    def sees_pictures(self) -> bool:
        """Whether conversations may hold pictures."""
        return getattr(self._processor, "image_processor", None) is not None

    @property
    def sees_films(self) -> bool:
        """Whether conversations may hold videos."""
        return getattr(self._processor, "video_processor", None) is not None

    @torch.inference_mode()
    def answer(
        self,
        turns: Sequence[Turn],
        *,
        max_tokens: int,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> Said:
        """The likeliest answer to a conversation.

        Args:
            turns: The conversation; the last turn is the user's.
            max_tokens: An answer is cut off there, or where the model has no more places.
            is_stopped: Asked after each token; true ends the answer there.

        Raises:
            BlindError: The model sees no pictures, or no videos, and there are some.
            ValueError: The model cannot take this conversation; the message says why.
        """
        inputs = self.inputs(turns)
        read = int(inputs["input_ids"].shape[1])
        places = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if places is not None and read >= places:
            raise ValueError(f"it has {read} tokens, and the model has places for {places}.")
        first = _FirstScores()
        written = self.model.generate(
            **inputs,
            max_new_tokens=min(max_tokens, places - read) if places else max_tokens,
            logits_processor=transformers.LogitsProcessorList([first]),
            stopping_criteria=transformers.StoppingCriteriaList([_Stop(is_stopped)]),
        )[0, read:].tolist()
        if written and written[-1] in self._ends:
            finish = "stop"
        else:
            finish = "stopped" if is_stopped() else "length"
        return Said(
            text=self.tokenizer.decode(written, skip_special_tokens=True),
            finish=finish,
            first_token=self._by_text(first.log_probabilities()),
            tokens_read=read,
            tokens_written=len(written),
        )

    def inputs(self, turns: Sequence[Turn]) -> dict[str, Tensor]:
        """What the model is given of a conversation, on its device.

        Raises:
            BlindError: As :meth:`answer`.
            ValueError: As :meth:`answer`.
        """
        self._check_texts(turns)
        text = self._to_text(turns)
        pictures = [part for part in _parts(turns) if isinstance(part, Image.Image)]
        films = [part for part in _parts(turns) if isinstance(part, Film)]
        first = self.tokenizer.bos_token
        # Templates write the first token themselves, where there is one.
        given: dict[str, Any] = {"add_special_tokens": not (first and text.startswith(first))}
        if pictures:
            given["images"] = [pictures]
        if films:
            given["videos"] = [[film.frames for film in films]]
            given["videos_kwargs"] = {
                "do_sample_frames": False,
                "video_metadata": [[_film_to_metadata(film) for film in films]],
            }
        try:
            with quiet():
                read = self._processor(text=[text], return_tensors="pt", **given)
        except Exception as error:
            # Whatever processors raise for pictures that are too long, too small or too many.
            raise ValueError(f"the model's processor refuses it: {words_of(error)}.") from error
        return {
            name: self._placed(value) for name, value in read.items() if isinstance(value, Tensor)
        }

    def _placed(self, value: Tensor) -> Tensor:
        # Pixels have the type of the weights; numbers by the row, such as seconds, stay exact.
        pixels = value.is_floating_point() and value.ndim > 1
        return value.to(self.model.device, self.model.dtype if pixels else value.dtype)

    def _to_text(self, turns: Sequence[Turn]) -> str:
        text = self._written(turns)
        for kind, name, seen in (
            (Image.Image, "pictures", self.sees_pictures),
            (Film, "videos", self.sees_films),
        ):
            if not any(isinstance(part, kind) for part in _parts(turns)):
                continue
            without = [
                Turn(turn.role, tuple(part for part in turn.parts if not isinstance(part, kind)))
                for turn in turns
            ]
            # A template that does not know a kind of part passes it over without a word.
            if not seen or self._written(without) == text:
                raise BlindError(f"the model sees no {name}.")
        return text

    def _written(self, turns: Sequence[Turn]) -> str:
        messages = [{"role": turn.role, "content": self._content(turn)} for turn in turns]
        try:
            text: str = self._processor.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        except Exception as error:
            # Templates raise errors of their own, and Jinja some for those that are broken.
            raise ValueError(f"the model's chat template refuses it: {words_of(error)}.") from error
        return text

    def _content(self, turn: Turn) -> str | list[dict[str, Any]]:
        if self._reads_texts_only:
            return "\n\n".join(part for part in turn.parts if isinstance(part, str))
        return [_part_to_content(part) for part in turn.parts]

    def _check_texts(self, turns: Sequence[Turn]) -> None:
        signs = special_signs(self.tokenizer)
        for text in _parts(turns):
            if isinstance(text, str):
                check_no_signs(text, signs)

    def _by_text(self, log_probabilities: Tensor) -> dict[str, float]:
        """float32 [vocabulary] to the likeliest; tokens with the same text are one."""
        values, ids = log_probabilities.topk(min(LIKELIEST, log_probabilities.numel()))
        found: dict[str, float] = {}
        for value, token in zip(values.tolist(), ids.tolist(), strict=True):
            text = self.tokenizer.decode([token])
            found[text] = float(np.logaddexp(found.get(text, -np.inf), value))
        return found


class _FirstScores:
    """A logits processor: keeps what the model gives of the first token; changes nothing."""

    def __init__(self) -> None:
        self._scores: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self._scores is None:
            self._scores = scores[0].float()
        return scores

    def log_probabilities(self) -> Tensor:
        """float32 [vocabulary]."""
        if self._scores is None:
            raise ValueError("there is no first token yet")
        return self._scores.log_softmax(dim=0).cpu()


class _Stop:
    """A stopping criterion."""

    def __init__(self, is_stopped: Callable[[], bool]) -> None:
        self._is_stopped = is_stopped

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        return torch.full((len(input_ids),), self._is_stopped(), device=input_ids.device)


def load(
    folder: Path, processor: Path, variant: str = "", placement: Placement = ON_CPU
) -> ChatModel:
    """The network of a folder.

    Args:
        folder: Configuration and weights.
        processor: The tokenizer's files, the chat template and the image processor's.
        variant: ``float32`` or ``bfloat16``; empty is the type that the weights are saved in.
        placement: Where its weights go; the variant says in which type.

    Raises:
        ValueError: Another variant, or not a folder of a model of this kind; the message says why.
    """
    if variant not in _TYPES:
        raise ValueError(f"there is no variant '{variant}': it is empty, float32 or bfloat16.")
    model_class, sees = _folder_to_class(folder)
    placement = placement._replace(dtype=_TYPES[variant])
    model: Any = folder_to_model(folder, model_class, placement)
    reader = _folder_to_processor(processor, sees=sees)
    known = int(model.get_input_embeddings().num_embeddings)
    tokenizer = getattr(reader, "tokenizer", reader)
    if len(tokenizer) > known:
        raise ValueError(
            f"the tokenizer in {processor} has {len(tokenizer)} tokens, and the model knows only "
            f"{known}: it is another model's."
        )
    written = getattr(model.config.get_text_config(), "eos_token_id", None)
    return ChatModel(model, reader, ends=folder_to_ends(folder, written, tokenizer.eos_token_id))


def _folder_to_class(folder: Path) -> tuple[Any, bool]:
    """The class of a folder's model, and whether it sees more than texts."""
    kind = folder_to_config(folder).get("model_type")
    from transformers.models.auto import modeling_auto

    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:
        raise ValueError(
            f"its model_type is '{kind}', and transformers {transformers.__version__} cannot read "
            f"its configuration: {words_of(error)}."
        ) from error
    for mapping, sees in (
        (modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, True),
        (modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING, False),
    ):
        if type(config) in mapping:
            return mapping[type(config)], sees
    raise ValueError(f"its model_type is '{kind}', which is no model that chats.")


def _folder_to_processor(folder: Path, *, sees: bool) -> Any:
    check_tokenizer_files(folder)
    auto = transformers.AutoProcessor if sees else transformers.AutoTokenizer
    what = "processor" if sees else "tokenizer"
    try:
        with quiet():
            processor = auto.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise ValueError(f"the {what} in {folder} cannot be read: {words_of(error)}.") from error
    if not getattr(processor, "chat_template", None):
        raise ValueError(f"the {what} in {folder} has no chat template: it is no model that chats.")
    return processor


def _part_to_content(part: Part) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    # What stands for them in the text is all that is needed of them there.
    return {"type": "video"} if isinstance(part, Film) else {"type": "image"}


def _film_to_metadata(film: Film) -> dict[str, Any]:
    count, height, width = film.frames.shape[:3]
    return {
        "total_num_frames": count,
        "fps": film.fps,
        "duration": count / film.fps,
        "frames_indices": list(range(count)),
        "height": height,
        "width": width,
    }


def _parts(turns: Sequence[Turn]) -> Iterator[Part]:
    return (part for turn in turns for part in turn.parts)
