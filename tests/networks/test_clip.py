"""CLIP and its relatives from folders: goldens, other layouts and kinds, and what is refused."""

from __future__ import annotations

import inspect
import json
import pickle
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import torch
import torch.nn.functional as F
import transformers
from aigve_models import clip, pickscore
from aigve_models._pretrained import TextReader
from aigve_models.clip import DualEncoder
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AltCLIPConfig,
    AltCLIPModel,
    AutoProcessor,
    AutoTokenizer,
    BertTokenizer,
    ChineseCLIPConfig,
    ChineseCLIPModel,
    MetaClip2Config,
    MetaClip2Model,
    Siglip2Config,
)
from transformers.utils import logging

from aigve_cli.engine.folding import fold_batch_norms
from aigve_cli.engine.networks import _lay_channels_last
from aigve_cli.video.decode import VideoReader
from tests.networks.model_folders import (
    WORDS,
    write_clip,
    write_json,
    write_model,
    write_pickscore,
    write_siglip,
)
from tests.networks.vision_goldens import (
    CLIP_FILE,
    COSINES,
    GOLDENS,
    PICTURES,
    SCALED,
    clip_frames,
    cosines,
    goldens,
    neighbours,
    seen_by,
)

EXPECTED = goldens()
PROMPTS: tuple[str, ...] = tuple(EXPECTED["prompts"])
NAMES = ["tiny-clip", "tiny-pickscore"]
EMPTY, LONG = 3, 4
# Another layout in memory, or another batch: another order of sums.
ROUND_OFF = 2e-6


def network_of(name: str) -> DualEncoder:
    module = clip if name == "tiny-clip" else pickscore
    network = module.load(GOLDENS / name, GOLDENS / name)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    named: str = request.param
    return named


@pytest.fixture(scope="module")
def network(name: str) -> DualEncoder:
    return network_of(name)


@pytest.fixture(scope="module")
def expected(name: str) -> dict[str, Any]:
    values: dict[str, Any] = EXPECTED[name]
    return values


@pytest.fixture(scope="module")
def images(name: str, network: DualEncoder) -> Tensor:
    return network(seen_by(GOLDENS / name))["image"]


def near(ours: Tensor, theirs: Any, tolerance: float) -> bool:
    wanted = torch.tensor(theirs, dtype=torch.float64)
    assert ours.shape == wanted.shape
    return bool((ours.double() - wanted).abs().max() <= tolerance)


# --- goldens --------------------------------------------------------------------------------------


def test_pictures(name: str, expected: dict[str, Any]) -> None:
    pictures = seen_by(GOLDENS / name)
    assert near(pictures[0, :, 0, 0], expected["pixel_values_first"], PICTURES)
    # 21,504 numbers, each with an error of its own.
    assert near(pictures.double().sum(), expected["pixel_values_sum"], 1e-3)


def test_features_of_a_picture(images: Tensor, expected: dict[str, Any]) -> None:
    assert images.dtype == torch.float32
    # The goldens have them at length 1.
    row = F.normalize(images[:1], dim=1)[0]
    assert near(row[:4], expected["image_features_frame0_first4"], COSINES)


def test_logit(network: DualEncoder, expected: dict[str, Any]) -> None:
    logit = network.text(PROMPTS[:2])["logit"]
    assert logit.dtype == torch.float32
    assert torch.equal(logit[0], logit[1])
    assert near(logit[0], [expected["logit_scale_exp"], 0.0], SCALED)


@pytest.mark.parametrize("index", range(len(PROMPTS)))
def test_a_prompt(
    network: DualEncoder, images: Tensor, expected: dict[str, Any], index: int
) -> None:
    wanted = expected["prompts"][index]
    ids = network._reader.read(PROMPTS[index : index + 1], torch.device("cpu")).ids[0].tolist()
    assert len(ids) == wanted["n_tokens"]
    assert ids[: len(wanted["first_ids"])] == wanted["first_ids"]
    assert ids[-len(wanted["last_ids"]) :] == wanted["last_ids"]

    read = network.text((PROMPTS[index],))
    each = cosines(images, read["text"])[:, 0]
    mean = each.mean()
    assert near(each, wanted["cos_per_frame"], COSINES)
    assert near(mean, wanted["cos_mean"], COSINES)
    assert near(100 * mean, wanted["cos_mean_x100"], 100 * COSINES)
    # Cut at 0 frame by frame, before the mean.
    positive = each.clamp(min=0).mean()
    assert near(100 * positive, wanted["clipscore_clamped_x100"], 100 * COSINES)
    assert near(2.5 * positive, wanted["hessel_2.5_clamped"], 2.5 * COSINES)
    factor = read["logit"][0, 0]
    assert near(factor * each, wanted["logit_scaled_per_frame"], SCALED)
    assert near(factor * mean, wanted["logit_scaled_mean"], SCALED)


def test_prompts_in_one_batch(
    network: DualEncoder, images: Tensor, expected: dict[str, Any]
) -> None:
    together = cosines(images, network.text(PROMPTS)["text"])
    assert near(together.mean(0), expected["batched_text_cos_mean"], COSINES)
    factor = network.text(PROMPTS[:1])["logit"][0, 0]
    chances = (factor * together[:, 0]).softmax(0)
    # An error of 1e-6 in a cosine is 1e-4 in a logit, and at most a quarter of that here.
    assert near(chances, expected["softmax_over_frames_prompt0"], 1e-4)


def test_frames_that_follow_one_another(images: Tensor, expected: dict[str, Any]) -> None:
    each = neighbours(images)
    assert near(each, expected["cliptemp_adjacent"], COSINES)
    assert near(each.mean(), expected["cliptemp_mean"], COSINES)


@pytest.mark.parametrize(
    ("how", "prompt_key", "clip_key"),
    [
        ("aigve", "aigve_squash224_cos_mean", "cliptemp_aigve_squash224_mean"),
        ("evalcrafter", "evalcrafter_raw_pixels_cos_mean", "cliptemp_evalcrafter_mean"),
    ],
)
def test_as_older_tools_prepared_frames(
    name: str,
    network: DualEncoder,
    expected: dict[str, Any],
    how: str,
    prompt_key: str,
    clip_key: str,
) -> None:
    rows = network(seen_by(GOLDENS / name, how))["image"]
    means = cosines(rows, network.text(PROMPTS)["text"]).mean(0)
    assert near(means, [prompt[prompt_key] for prompt in expected["prompts"]], COSINES)
    assert near(neighbours(rows).mean(), expected[clip_key], COSINES)


def test_frames_of_the_file(name: str, network: DualEncoder, images: Tensor) -> None:
    with VideoReader(CLIP_FILE) as reader:
        decoded = list(reader)
    assert len(decoded) == len(clip_frames())
    assert torch.equal(network(seen_by(GOLDENS / name, frames=decoded))["image"], images)


def test_as_the_engine_lays_it_out(name: str, images: Tensor) -> None:
    """Channels last, and there are no batch norms to fold."""
    network = network_of(name)
    assert fold_batch_norms(network) == 0
    _lay_channels_last(network)
    pictures = seen_by(GOLDENS / name).contiguous(memory_format=torch.channels_last)
    assert (network(pictures)["image"] - images).abs().max() <= ROUND_OFF


# --- texts ----------------------------------------------------------------------------------------


def test_tokens_are_counted_uncut(network: DualEncoder) -> None:
    tokens = network.text(PROMPTS)["tokens"]
    assert tokens.dtype == torch.float32
    assert tokens[:, 1].tolist() == [77] * len(PROMPTS)
    counts = tokens[:, 0].tolist()
    # Beginning and end; PROMPTS[LONG] is the longest by far.
    assert counts[EMPTY] == 2
    assert counts[LONG] > 77 > max(counts[:LONG])


def test_texts_do_not_see_each_other(network: DualEncoder) -> None:
    alone = torch.cat([network.text((prompt,))["text"] for prompt in PROMPTS])
    assert (network.text(PROMPTS)["text"] - alone).abs().max() <= ROUND_OFF
    turned = network.text(PROMPTS[::-1])["text"].flip(0)
    assert (turned - alone).abs().max() <= ROUND_OFF


def test_the_cut_keeps_the_end(network: DualEncoder) -> None:
    """Words behind the limit change nothing, and a text that ends at it is not cut."""
    many = " ".join(["zz"] * 200)
    first = network.text((many, many + " a red ball"))
    assert torch.equal(first["text"][0], first["text"][1])
    assert first["tokens"][0, 0] < first["tokens"][1, 0]
    fits = "z " * 75
    read = network.text((fits, fits + "z"))
    assert read["tokens"][:, 0].tolist() == [77, 78]
    ids = network._reader.read((fits, fits + "z"), torch.device("cpu")).ids
    assert torch.equal(ids[0], ids[1])


def test_what_fills_up_is_masked(network: DualEncoder) -> None:
    read = network._reader.read((PROMPTS[EMPTY], PROMPTS[0]), torch.device("cpu"))
    assert read.mask.tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]


@pytest.mark.parametrize(
    "text", ["\U0001f600", "\x00", "\ud800".encode("utf-8", "replace").decode()]
)
def test_odd_texts(network: DualEncoder, text: str) -> None:
    assert torch.isfinite(network.text((text,))["text"]).all()


# --- behaviour ------------------------------------------------------------------------------------


def test_pictures_do_not_see_each_other(name: str, network: DualEncoder, images: Tensor) -> None:
    pictures = seen_by(GOLDENS / name)
    assert (network(pictures[2:3])["image"] - images[2:3]).abs().max() <= ROUND_OFF
    assert (network(pictures.flip(0))["image"].flip(0) - images).abs().max() <= ROUND_OFF


@pytest.mark.parametrize("shape", [(1, 3, 224, 224), (1, 3, 32, 40), (1, 1, 32, 32), (3, 32, 32)])
def test_other_pictures_are_refused(network: DualEncoder, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images are \[B, 3, 32, 32\], not \["):
        network(torch.zeros(shape))


def test_releases_that_give_plain_tensors(images: Tensor, name: str) -> None:
    """Before transformers 5, features were not wrapped."""
    whole = network_of(name)

    class Earlier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = whole.model.config
            self.logit_scale = whole.model.logit_scale

        def get_image_features(self, **inputs: Any) -> Tensor:
            features: Tensor = whole.model.get_image_features(**inputs).pooler_output
            return features

        def get_text_features(self, **inputs: Any) -> Tensor:
            features: Tensor = whole.model.get_text_features(**inputs).pooler_output
            return features

    earlier = DualEncoder(Earlier(), whole._reader, masked=True)
    assert torch.equal(earlier(seen_by(GOLDENS / name))["image"], images)
    assert torch.equal(earlier.text(PROMPTS)["text"], whole.text(PROMPTS)["text"])


def test_nothing_is_said_and_nothing_is_asked(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    folder = write_clip(tmp_path / "older", older=True)
    capfd.readouterr()
    caplog.clear()
    logging.enable_progress_bar()
    level = logging.get_verbosity()
    network = clip.load(folder, folder)
    network.text((PROMPTS[LONG], "x" * 5000))
    (folder / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="model_type"):
        clip.load(folder, folder)
    edit_weights(write_clip(folder), lambda state: state.pop(PROJECTION))
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(ValueError, match=PROJECTION):
        clip.load(folder, folder)
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.name.startswith("transformers")] == []
    assert logging.get_verbosity() == level
    assert logging.is_progress_bar_enabled()


# --- layouts --------------------------------------------------------------------------------------


def test_the_older_layout_is_the_same_to_the_bit(tmp_path: Path) -> None:
    newer, older = (
        clip.load(folder, folder)
        for folder in (write_clip(tmp_path / "new"), write_clip(tmp_path / "old", older=True))
    )
    config = json.loads((tmp_path / "old" / "config.json").read_text(encoding="utf-8"))
    assert config["text_config"]["eos_token_id"] == 2
    assert not (tmp_path / "old" / "model.safetensors").exists()
    pictures = seen_by(tmp_path / "new")
    assert torch.equal(seen_by(tmp_path / "old"), pictures)
    assert torch.equal(newer(pictures)["image"], older(pictures)["image"])
    ours, theirs = newer.text(PROMPTS), older.text(PROMPTS)
    assert all(torch.equal(ours[key], theirs[key]) for key in ("text", "tokens", "logit"))


def test_a_processor_from_another_folder(tmp_path: Path) -> None:
    """As PickScore is published: its own folder has nothing but the model."""
    folder = write_pickscore(tmp_path / "model", tmp_path / "processor")
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    network = pickscore.load(folder, tmp_path / "processor")
    assert network.text(("a red ball",))["tokens"].tolist() == [[5, 77]]
    assert network(seen_by(tmp_path / "processor"))["image"].shape == (7, 24)
    with pytest.raises(ValueError, match=f"there is no tokenizer in {folder}: none of tokenizer"):
        pickscore.load(folder, folder)


def test_shards(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "whole")
    whole = clip.load(folder, folder)
    parted = tmp_path / "parted"
    whole.model.save_pretrained(parted, max_shard_size="60KB")
    assert len(list(parted.glob("model-0*.safetensors"))) > 1
    state = clip.load(parted, folder).state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in whole.state_dict().items())
    next(parted.glob("model-0*.safetensors")).unlink()
    with pytest.raises(ValueError, match=r"transformers cannot read it as CLIPModel: .*model-0"):
        clip.load(parted, folder)


def test_halves_are_read_as_float32(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "clip")
    path = folder / "model.safetensors"
    save_file({key: tensor.half() for key, tensor in load_file(path).items()}, path)
    edit(folder / "config.json", dtype="float16")
    network = clip.load(folder, folder)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_real_size(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "clip", real_size=True, older=True)
    network = clip.load(folder, folder)
    assert sum(parameter.numel() for parameter in network.parameters()) == 151_277_313
    read = network.text(("a red ball", "the dog runs"))
    assert (read["text"].shape, network.size) == ((2, 512), 224)
    with torch.inference_mode():
        rows = network(seen_by(folder, frames=clip_frames()[:2]))["image"]
    assert rows.shape == (2, 512)
    assert torch.isfinite(rows).all()
    shutil.rmtree(folder)  # 600 MB


# --- relatives ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def siglip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_siglip(tmp_path_factory.mktemp("models") / "siglip")


def test_siglip_reads_what_fills_up(siglip_folder: Path) -> None:
    """As it was trained, and as transformers' own processor does with padding="max_length"."""
    network = clip.load(siglip_folder, siglip_folder)
    texts = ("a red ball", "the dog runs on grass", "")
    read = network._reader.read(texts, torch.device("cpu"))
    assert read.ids.shape == (3, 16)
    assert read.ids[2].tolist() == [1] * 16
    processor = AutoProcessor.from_pretrained(siglip_folder)
    theirs = processor(text=list(texts), padding="max_length", max_length=16, return_tensors="pt")
    assert torch.equal(read.ids, theirs["input_ids"])
    rows = network.text(texts)
    wanted = network.model.get_text_features(input_ids=read.ids).pooler_output
    assert torch.equal(rows["text"], wanted)
    assert rows["tokens"].tolist() == [[4, 16], [6, 16], [1, 16]]
    masked = network.model.get_text_features(input_ids=read.ids, attention_mask=read.mask)
    assert (wanted - masked.pooler_output).abs().max() > 100 * COSINES
    # A longer text beside it changes nothing.
    assert torch.equal(network.text((texts[0], " ".join(WORDS)))["text"][0], rows["text"][0])


def test_siglip_s_cosine_has_a_factor_and_a_bias(siglip_folder: Path) -> None:
    network = clip.load(siglip_folder, siglip_folder)
    pictures = seen_by(siglip_folder)
    read = network.text(("a red ball", "the dog runs"))
    ids = network._reader.read(("a red ball", "the dog runs"), torch.device("cpu")).ids
    theirs = network.model(input_ids=ids, pixel_values=pictures).logits_per_image
    ours = cosines(network(pictures)["image"], read["text"]) * read["logit"][:, 0]
    assert read["logit"][0, 1] != 0
    assert (ours + read["logit"][:, 1] - theirs).abs().max() <= SCALED


_TOWER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_PICTURES = {**_TOWER, "image_size": 32, "patch_size": 8}


def relative(config_class: Any, **text: Any) -> Any:
    return config_class(
        text_config={**_TOWER, "vocab_size": 60, **text}, vision_config=_PICTURES, projection_dim=16
    )


@pytest.mark.parametrize(
    ("model_class", "config", "limit"),
    [
        (
            MetaClip2Model,
            lambda: relative(
                MetaClip2Config, max_position_embeddings=20, eos_token_id=3, bos_token_id=2
            ),
            20,
        ),
        (
            ChineseCLIPModel,
            lambda: relative(ChineseCLIPConfig, max_position_embeddings=20, pad_token_id=0),
            20,
        ),
        # Two places of XLM-RoBERTa's are never used.
        (
            AltCLIPModel,
            lambda: relative(
                AltCLIPConfig, max_position_embeddings=20, project_dim=32, pad_token_id=1
            ),
            18,
        ),
    ],
    ids=["metaclip_2", "chinese_clip", "altclip"],
)
def test_relatives(tmp_path: Path, model_class: Any, config: Callable[[], Any], limit: int) -> None:
    write_model(tmp_path, model_class, config(), "relative")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    if model_class is AltCLIPModel:
        special[:2] = special[1::-1]
    names = [*special, *WORDS]
    BertTokenizer(vocab={name: index for index, name in enumerate(names)}).save_pretrained(tmp_path)
    network = clip.load(tmp_path, tmp_path)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    texts = ("a red ball", " ".join(WORDS), "the dog")
    read = network.text(texts)
    assert read["tokens"].tolist() == [[5, limit], [len(WORDS) + 2, limit], [4, limit]]
    assert read["logit"][0, 1] == 0
    given = network._reader.read(texts, torch.device("cpu"))
    assert given.ids[1, -1] == names.index("[SEP]")
    theirs = network.model(input_ids=given.ids, attention_mask=given.mask, pixel_values=images)
    ours = cosines(network(images)["image"], read["text"]) * read["logit"][:, 0]
    assert (ours - theirs.logits_per_image).abs().max() <= SCALED


@pytest.mark.parametrize("kind", ["blip", "clip_text_model", "siglip2", "clipseg", "bert", None])
def test_other_kinds_are_refused_by_name(tmp_path: Path, kind: str | None) -> None:
    folder = write_clip(tmp_path / "clip")
    edit(folder / "config.json", model_type=kind)
    with pytest.raises(ValueError, match=f"^its model_type is '{kind}': .*Known: clip, metaclip_2"):
        clip.load(folder, folder)


def test_siglip_2_s_kind_is_what_is_refused() -> None:
    assert Siglip2Config.model_type == "siglip2"


def test_there_is_one_variant(tmp_path: Path) -> None:
    for module in (clip, pickscore):
        with pytest.raises(ValueError, match="there is no variant 'l-14': leave it empty"):
            module.load(tmp_path, tmp_path, "l-14")


# --- what is not such a model ---------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip")


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None takes a key out."""
    values = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    write_json(path, {key: value for key, value in values.items() if value is not None})


def edit_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    path = folder / "model.safetensors"
    state = {key: tensor.clone() for key, tensor in load_file(path).items()}
    change(state)
    save_file(state, path, metadata={"format": "pt"})


def refusal(folder: Path, processor: Path | None = None) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the caller looks at its words
        clip.load(folder, processor or folder)
    assert type(caught.value) is ValueError
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


PROJECTION = "visual_projection.weight"


def test_a_missing_tensor(folder: Path) -> None:
    edit_weights(folder, lambda state: state.pop(PROJECTION))
    assert refusal(folder) == (
        f"its tensors are not those of CLIPModel (78): 1 missing: {PROJECTION}."
    )


def test_a_tensor_too_many(folder: Path) -> None:
    edit_weights(folder, lambda state: state.update({"head.weight": torch.zeros(2)}))
    assert refusal(folder).endswith("(78): 1 unknown: head.weight.")


def test_a_tensor_of_another_shape(folder: Path) -> None:
    edit_weights(folder, lambda state: state.update({PROJECTION: torch.zeros(8, 32)}))
    text = refusal(folder)
    assert f"1 of another shape: {PROJECTION} (8, 32) instead of (16, 32)." in text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite(folder: Path, value: float) -> None:
    edit_weights(folder, lambda state: state[PROJECTION].__setitem__((3, 5), value))
    assert f"1 with numbers that are not finite: {PROJECTION}." in refusal(folder)


def test_ten_names_and_a_count(folder: Path) -> None:
    extra = {f"x{index:02}": torch.zeros(1) for index in range(12)}
    edit_weights(folder, lambda state: (state.pop(PROJECTION), state.update(extra)))
    text = refusal(folder)
    assert f"1 missing: {PROJECTION}; 12 unknown: x00, x01, " in text
    assert "x09, … and 2 more." in text
    assert "x10" not in text


def test_the_weights_of_another_model(folder: Path, tmp_path: Path) -> None:
    write_siglip(tmp_path / "siglip")
    shutil.copy(tmp_path / "siglip" / "model.safetensors", folder)
    text = refusal(folder)
    assert "missing: " in text
    assert "unknown: logit_bias" in text


def test_positions_of_older_files_are_no_surplus(folder: Path) -> None:
    places = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    edit_weights(folder, lambda state: state.update(places))
    clip.load(folder, folder)


def test_safetensors_come_first(folder: Path) -> None:
    """A pickle beside them is not opened."""
    (folder / "pytorch_model.bin").write_bytes(b"broken")
    clip.load(folder, folder)


@pytest.mark.parametrize("size", [0, 7, 2000, -100])
def test_a_file_cut_short(folder: Path, size: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    assert refusal(folder).startswith("transformers cannot read it as CLIPModel: ")


def test_an_older_file_cut_short(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "older", older=True)
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-1000])
    assert refusal(folder).startswith("transformers cannot read it as CLIPModel: ")


class _Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.mkdir, (self._path,)


@pytest.mark.parametrize(
    "write", [torch.save, lambda trap, path: path.write_bytes(pickle.dumps(trap))]
)
def test_a_pickle_with_code_is_not_run(tmp_path: Path, write: Callable[..., object]) -> None:
    folder, sprung = write_clip(tmp_path / "older", older=True), tmp_path / "sprung"
    write({PROJECTION: _Trap(sprung)}, folder / "pytorch_model.bin")
    text = refusal(folder)
    assert not sprung.exists()
    assert text == "transformers cannot read it as CLIPModel: it holds other things than tensors."


def test_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "no file named model.safetensors" in refusal(folder)


def test_no_configuration(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert refusal(folder).startswith("it has no config.json, so it is no folder of a model")


@pytest.mark.parametrize(
    ("text", "why"), [("{", "cannot be read"), ("[]", "holds a list"), ("\xff", "cannot be read")]
)
def test_a_broken_configuration(folder: Path, text: str, why: str) -> None:
    (folder / "config.json").write_text(text, encoding="latin-1")
    assert refusal(folder).startswith(f"its config.json {why}")


def test_a_configuration_that_does_not_fit_together(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    edit(folder / "config.json", vision_config={**config["vision_config"], "hidden_size": 33})
    assert refusal(folder).startswith("transformers cannot read it as CLIPModel: ")


def test_code_that_the_configuration_names_is_not_run(folder: Path) -> None:
    auto = {name: "own.Own" for name in ("AutoConfig", "AutoModel", "AutoTokenizer")}
    edit(folder / "config.json", auto_map=auto)
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "own.Own"]})
    (folder / "own.py").write_text("raise SystemExit('was run')\n", encoding="utf-8")
    network = clip.load(folder, folder)
    assert inspect.getmodule(network.model).__name__.startswith("transformers.models.clip.")  # type: ignore[union-attr]


# --- tokenizers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("older", "files"),
    [
        (False, ["tokenizer.json"]),
        (False, ["tokenizer.json", "tokenizer_config.json"]),
        (True, ["vocab.json"]),
        (True, ["merges.txt"]),
    ],
)
def test_no_tokenizer(tmp_path: Path, older: bool, files: list[str]) -> None:
    """transformers makes an empty one of what is left."""
    folder = write_clip(tmp_path / "clip", older=older)
    for file in files:
        (folder / file).unlink()
    assert refusal(folder).startswith(f"there is no tokenizer in {folder}: none of tokenizer.json")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": {"type": "NoSuch"}}'])
def test_a_broken_tokenizer(folder: Path, text: str) -> None:
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    assert refusal(folder).startswith(f"the tokenizer in {folder} cannot be read: ")


def test_a_package_that_a_tokenizer_needs(
    siglip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As google/siglip-base-patch16-224 has it."""
    folder = tmp_path / "siglip"
    shutil.copytree(siglip_folder, folder)
    (folder / "tokenizer.json").unlink()
    (folder / "spiece.model").write_bytes(b"not looked at")
    edit(folder / "tokenizer_config.json", tokenizer_class="SiglipTokenizer")

    def missing(*_: object, **__: object) -> NoReturn:
        raise ImportError("SiglipTokenizer requires the SentencePiece library")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", missing)
    assert refusal(folder) == (
        f"the tokenizer in {folder} needs a package that is not here: SiglipTokenizer requires the "
        "SentencePiece library. SigLIP's needs sentencepiece and protobuf."
    )


def test_a_tokenizer_s_own_code_is_not_run(folder: Path) -> None:
    """The kind of the model names a tokenizer of transformers, which is taken instead."""
    (folder / "own.py").write_text("raise SystemExit('was run')\n", encoding="utf-8")
    auto = {"AutoTokenizer": ["own.Own", "own.Own"]}
    edit(folder / "tokenizer_config.json", auto_map=auto, tokenizer_class="Own")
    network = clip.load(folder, folder)
    assert network.text(("a red ball",))["tokens"].tolist() == [[5, 77]]


def test_the_tokenizer_of_another_model(folder: Path, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.mkdir()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{index}" for index in range(5000))]
    ids = {name: index for index, name in enumerate(names)}
    BertTokenizer(vocab=ids).save_pretrained(big)
    with pytest.raises(ValueError, match="ends texts with token 3, and the model looks for"):
        clip.load(folder, big)


def test_a_token_that_the_model_does_not_know(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["zebra"])
    tokenizer.save_pretrained(folder)
    network = clip.load(folder, folder)
    known = network.model.config.text_config.vocab_size
    with pytest.raises(ValueError, match=f"gives token {known}, and the model knows only {known}"):
        network.text(("a zebra",))
    assert network.text(("a horse",))["text"].shape[0] == 1


def test_a_tokenizer_that_cannot_fill_up(siglip_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "siglip"
    shutil.copytree(siglip_folder, folder)
    edit(folder / "tokenizer_config.json", pad_token=None)
    assert refusal(folder).endswith("names no token to fill up short texts with.")


def test_the_smaller_limit_holds(folder: Path) -> None:
    config = SimpleNamespace(text_config=SimpleNamespace(vocab_size=10_000), model_type="clip")
    for stated, places, limit in ((9, 77, 9), (9, 8, 8), (None, 77, 77)):
        edit(folder / "tokenizer_config.json", model_max_length=stated)
        reader = TextReader(folder, config, positions=places)
        read = reader.read(("a red ball " * 20,), torch.device("cpu"))
        assert (reader.limit, read.ids.shape) == (limit, (1, min(limit, 62)))
