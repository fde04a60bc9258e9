"""UMT: a tiny network of its layout gives VBench's numbers; the published one loads strictly."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from aigve_models import umt_large
from aigve_models._kinetics400 import ACTIONS
from aigve_models.umt_large import UMT, Sizes, build
from torch import Tensor
from torchvision.models.video import R3D_18_Weights

from aigve_cli.engine.networks import load_network
from aigve_cli.errors import WeightsError
from aigve_cli.weights import Located, network_card
from tests.networks.vbench_weights import golden, golden_shapes, vbench_state

TINY = Sizes(width=96, layers=2, heads=3)
# Other orders of sums, of logits up to 20: 2e-6 was seen.
PARITY = 2e-5
MEAN = np.array((0.485, 0.456, 0.406), np.float32)
DEVIATION = np.array((0.229, 0.224, 0.225), np.float32)


def places(width: int) -> Tensor:
    """The places that such a checkpoint holds: sines of 8 frames, stretched to 16."""
    index = np.arange(width)
    angles = np.arange(1568)[:, None] / np.power(10000, 2 * (index // 2) / width)
    angles[:, 0::2], angles[:, 1::2] = np.sin(angles[:, 0::2]), np.cos(angles[:, 1::2])
    table = torch.tensor(angles, dtype=torch.float32).view(8, 196, width).permute(1, 2, 0)
    stretched = F.interpolate(table, size=16, mode="linear")  # [196, width, 16]
    return stretched.permute(2, 0, 1).reshape(1, -1, width)


def load(checkpoint: dict[str, Tensor], folder: Path) -> UMT:
    path = folder / "l16_ptk710_ftk710_ftk400_f16_res224.pth"
    torch.save(checkpoint, path)
    located = Located(path, "0" * 64, "standard", False, "k400", "MIT")
    return load_network(network_card("umt-large"), located, device="cpu")  # type: ignore[return-value]


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UMT:
    monkeypatch.setattr(umt_large, "PUBLISHED", TINY)
    shapes = ((key, tuple(tensor.shape)) for key, tensor in UMT(TINY).state_dict().items())
    state = vbench_state(shapes)
    state["head.weight"] *= 4
    state["pos_embed"] = places(TINY.width)
    return load(state, tmp_path)


def clip() -> Tensor:
    """The golden clip as VBench prepares it: OpenCV's bilinear, the middle, normalised."""
    arrays = golden("human_action_umt_tiny")
    frames = [
        cv2.resize(frame, (341, 256), interpolation=cv2.INTER_LINEAR)[16:240, 58:282]
        for frame in arrays["frames"][arrays["frame_idx"]]
    ]
    seen = (np.stack(frames).astype(np.float32) / 255 - MEAN) / DEVIATION
    return torch.from_numpy(seen).permute(3, 0, 1, 2)[None]


def test_logits_are_the_golden_ones(tiny: UMT) -> None:
    arrays = golden("human_action_umt_tiny")
    logits = tiny(clip())["logits"]
    torch.testing.assert_close(logits, torch.from_numpy(arrays["logits"]), rtol=0, atol=PARITY)
    assert logits.topk(5).indices.tolist() == arrays["top5"].tolist()


def test_clips_do_not_see_each_other(tiny: UMT) -> None:
    clips = torch.cat([clip(), clip().flip(2)])
    rows = tiny(clips)["logits"]
    torch.testing.assert_close(tiny(clips[1:])["logits"], rows[1:], rtol=0, atol=PARITY)
    assert (rows[0] - rows[1]).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(1, 3, 8, 224, 224), (1, 3, 16, 256, 256), (3, 16, 224, 224)])
def test_other_clips_are_refused(tiny: UMT, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"clips are \[B, 3, 16, 224, 224\]"):
        tiny(torch.zeros(shape))


def test_names_are_the_published_ones() -> None:
    with torch.device("meta"):
        ours = {key: tuple(value.shape) for key, value in UMT(TINY).state_dict().items()}
    assert ours == golden_shapes("umt_tiny_state_dict_shapes")


def test_tensors_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = {key: tensor.shape for key, tensor in build().state_dict().items()}
    assert shapes["pos_embed"] == (1, 3136, 1024)
    checkpoint = {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}
    checkpoint["norm.bias"] = checkpoint.pop("fc_norm.bias")
    checkpoint["head.weight"] = torch.zeros(()).expand(710, 1024)
    with pytest.raises(WeightsError) as caught:
        load(checkpoint, tmp_path)
    assert "1 missing: fc_norm.bias" in caught.value.message
    assert "1 unknown: norm.bias" in caught.value.message
    assert "head.weight (710, 1024) instead of (400, 1024)" in caught.value.message


def test_actions_are_those_of_kinetics() -> None:
    assert len(ACTIONS) == 400
    assert sorted(ACTIONS) == sorted(R3D_18_Weights.KINETICS400_V1.meta["categories"])
    assert (ACTIONS[0], ACTIONS[128], ACTIONS[399]) == (
        "riding a bike",
        "tai chi",
        "playing badminton",
    )


def test_there_is_one_variant() -> None:
    with pytest.raises(ValueError, match="no variant 'base'"):
        build("base")
