"""ViCLIP: tiny towers of its layout give VBench's numbers; the published ones load strictly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from aigve_models import viclip
from aigve_models.viclip import Sizes, ViCLIP, build, checkpoint_to_state
from torch import Tensor

from aigve_cli.engine.networks import load_network
from aigve_cli.errors import WeightsError
from aigve_cli.weights import Located, network_card
from tests.networks.vbench_weights import golden, golden_shapes, vbench_state

TINY = Sizes(patch=32, video_width=128, video_layers=2, text_width=64, text_layers=2, dimensions=64)
# Other orders of sums: 1e-7 was seen.
PARITY = 1e-6


def load(checkpoint: dict[str, Tensor], folder: Path) -> ViCLIP:
    path = folder / "ViClip-InternVid-10M-FLT.pth"
    torch.save({"model": checkpoint}, path)
    located = Located(path, "0" * 64, "standard", False, "internvid-10m-flt", "Apache-2.0")
    return load_network(network_card("viclip"), located, device="cpu")  # type: ignore[return-value]


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ViCLIP:
    monkeypatch.setattr(viclip, "PUBLISHED", TINY)
    shapes = ((key, tuple(tensor.shape)) for key, tensor in ViCLIP(TINY).state_dict().items())
    return load(vbench_state(shapes) | {"temp": torch.tensor(0.01)}, tmp_path)


def clip() -> Tensor:
    """The golden clip as VBench prepares it: resized to whole numbers, cut, normalised."""
    arrays = golden("overall_consistency_viclip_tiny")
    frames = torch.from_numpy(arrays["frames"][arrays["frame_idx"]]).permute(0, 3, 1, 2).float()
    resized = F.interpolate(frames, (224, 298), mode="bicubic").clamp(0, 255).round()
    mean = torch.tensor((0.48145466, 0.4578275, 0.40821073)).view(3, 1, 1)
    deviation = torch.tensor((0.26862954, 0.26130258, 0.27577711)).view(3, 1, 1)
    seen = (resized[:, :, :, 37:261] / 255 - mean) / deviation
    assert torch.allclose(seen[:, :, ::9, ::9], torch.from_numpy(arrays["pre_sub"]), atol=1e-6)
    return seen.transpose(0, 1)[None]


def test_videos_and_texts_are_the_golden_ones(tiny: ViCLIP) -> None:
    arrays = golden("overall_consistency_viclip_tiny")
    video = F.normalize(tiny(clip())["video"])
    torch.testing.assert_close(
        video, torch.from_numpy(arrays["video_feat_norm"]), rtol=0, atol=PARITY
    )
    read = tiny.text(tuple(arrays["texts"].tolist()))
    text = F.normalize(read["text"])
    torch.testing.assert_close(
        text, torch.from_numpy(arrays["text_feat_norm"]), rtol=0, atol=PARITY
    )
    scores = torch.from_numpy(arrays["scores"])
    torch.testing.assert_close(video @ text.T, scores, rtol=0, atol=PARITY)
    assert read["tokens"].tolist() == [[10, 32], [15, 32]]


def test_neither_sees_its_neighbours(tiny: ViCLIP) -> None:
    clips = torch.cat([clip(), clip().flip(2)])
    rows = tiny(clips)["video"]
    torch.testing.assert_close(tiny(clips[1:])["video"], rows[1:], rtol=0, atol=1e-5)
    assert not torch.allclose(rows[0], rows[1], atol=1e-3)  # the order of frames matters
    both = tiny.text(("a cat", "a dog on a bike"))["text"]
    torch.testing.assert_close(tiny.text(("a dog on a bike",))["text"], both[1:])


def test_a_long_text_is_cut_and_ends(tiny: ViCLIP) -> None:
    long = " ".join(["dog"] * 40)
    read = tiny.text((long, long + " and a cat"))
    assert read["tokens"].tolist() == [[42, 32], [45, 32]]
    torch.testing.assert_close(read["text"][0], read["text"][1])


@pytest.mark.parametrize("shape", [(1, 3, 16, 224, 224), (1, 3, 8, 112, 112), (3, 8, 224, 224)])
def test_other_clips_are_refused(tiny: ViCLIP, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"clips are \[B, 3, 8, 224, 224\]"):
        tiny(torch.zeros(shape))


def test_names_are_the_published_ones() -> None:
    with torch.device("meta"):
        ours = {key: tuple(value.shape) for key, value in ViCLIP(TINY).state_dict().items()}
    kit = golden_shapes("viclip_vision_tiny_shapes") | golden_shapes("viclip_text_tiny_shapes")
    assert ours == kit


def test_the_published_sizes_are_those_of_clip_l_14() -> None:
    with torch.device("meta"):
        state = build().state_dict()
    assert tuple(state["vision_encoder.positional_embedding"].shape) == (257, 1024)
    assert tuple(state["vision_encoder.proj"].shape) == (1024, 768)
    assert tuple(state["text_encoder.positional_embedding"].shape) == (32, 768)
    assert "vision_encoder.transformer.resblocks.23.ln_2.bias" in state
    assert "text_encoder.transformer.resblocks.12.ln_2.bias" not in state


def test_tensors_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = {key: tensor.shape for key, tensor in build().state_dict().items()}
    checkpoint = {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}
    checkpoint["text_encoder.logit"] = checkpoint.pop("text_encoder.ln_final.bias")
    checkpoint["vision_encoder.conv1.weight"] = torch.zeros(()).expand(1024, 3, 1, 16, 16)
    with pytest.raises(WeightsError) as caught:
        load(checkpoint, tmp_path)
    assert "1 missing: text_encoder.ln_final.bias" in caught.value.message
    assert "1 unknown: text_encoder.logit" in caught.value.message
    assert "vision_encoder.conv1.weight" in caught.value.message
    assert checkpoint_to_state({"temp": 1, "other": 2}) == {"other": 2}


def test_there_is_one_variant() -> None:
    with pytest.raises(ValueError, match="no variant 'b-16'"):
        build("b-16")
