"""The difference of two frames is VBench's to the last bit, whatever is in the batch."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
import torch
from aigve_models.frame_difference import build

from tests.networks.vbench_weights import golden


@pytest.mark.parametrize("size", [(48, 64), (37, 53), (768, 1360)])
def test_means_are_numpys_in_float32(size):
    frames = np.random.default_rng(7).integers(0, 256, (3, *size, 3), dtype=np.uint8)
    tensors = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    pairs = torch.stack([tensors[:-1], tensors[1:]], dim=2)
    found = build()(pairs)["mean"]
    # As VBench has it: OpenCV's order of channels, and its difference of two float32 pictures.
    blue_first = [np.array(frame[..., ::-1], dtype=np.float32) for frame in frames]
    expected = [np.mean(cv2.absdiff(*pair)) for pair in itertools.pairwise(blue_first)]
    assert found.dtype == torch.float32
    assert found[:, 0].tolist() == [float(mean) for mean in expected]
    contiguous = build()(pairs.contiguous())["mean"]
    assert torch.equal(contiguous, found)
    exact = np.abs(frames[1:].astype(int) - frames[:-1]).mean(axis=(1, 2, 3))
    assert found[:, 0].numpy() == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("clip", ["a", "noise", "static", "two"])
def test_means_are_the_golden_ones(clip):
    arrays = golden("temporal_flickering_synth")
    frames = torch.from_numpy(arrays[f"frames_{clip}"]).permute(0, 3, 1, 2).float()
    pairs = torch.stack([frames[:-1], frames[1:]], dim=2)
    expected = arrays[f"mae_seq_{clip}"]
    assert build()(pairs)["mean"][:, 0].tolist() == expected.tolist()
    alone = [build()(pair[None])["mean"].item() for pair in pairs]
    assert alone == expected.tolist()


@pytest.mark.parametrize("shape", [(1, 3, 3, 8, 8), (3, 2, 8, 8), (1, 1, 2, 8, 8)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"pairs are \[B, 3, 2, H, W\]"):
        build()(torch.zeros(shape))


def test_there_is_one_variant():
    with pytest.raises(ValueError, match="no variant 'grey'"):
        build("grey")
