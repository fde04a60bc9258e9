"""The other direction: peers, run by their own code, give the numbers that ``aigve compute`` gives.

pytorch-fid and torch-fidelity read folders of pictures, `aigve` reads videos of the same frames;
all load one checkpoint of deterministic weights.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aigve_models import inception_v3_fid

from aigve_cli.video.ffmpeg import ffmpeg_binary
from aigve_cli.weights import network_card
from tests.conftest import Done, read_results, write_clip
from tests.networks.det_weights import det_state

PICTURES = Path(__file__).parents[1] / "goldens" / "inception"
NETWORK = "inception-v3-fid"
SIDES = {"generated": "img_A", "reference": "img_B"}
SUBSET = 12
# Of fewer frames than dimensions the product of covariances is singular: peers add the roots of
# eigenvalues that are round-off (5e-6 measured). The nearest other convention is 6e-3 away.
FRECHET = 2e-5
# Peers' kernels are float32 numbers of about 3, of whose means a difference is taken (2e-7
# measured; another order of videos moves it by 1e-3).
KERNEL = 1e-6
Aigve = Callable[..., Done]


@dataclass(frozen=True)
class Material:
    """What all programs get."""

    videos: Path
    pictures: Path
    """``NN-FF.png``: frame FF of the NNth video, in the order of aigve's sets, which is that of the
    files' hashes: peers draw subsets and splits by the position of a picture."""
    torch_home: Path
    """Where both peers look for the checkpoint before they would download it."""
    checkpoint: Path

    def run_peer(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            capture_output=True,
            text=True,
            cwd=self.pictures,
            env={**os.environ, "TORCH_HOME": str(self.torch_home)},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run_aigve(self, aigve: Aigve, output: Path, *arguments: str) -> dict[str, Any]:
        """Records by name of value."""
        done = aigve(
            *("compute", "--input-dir", self.videos / "generated"),
            *("--reference-dir", self.videos / "reference", "--use-cpu"),
            *("--model", f"{NETWORK}={self.checkpoint}", "--output-dir", output, *arguments),
        )
        assert done.code == 0, done.stderr
        return {record["value_name"]: record for record in read_results(output)["results"]}


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """24 generated and 20 reference frames, in lossless videos of four and as pictures."""
    folder = tmp_path_factory.mktemp("peers")
    checkpoint = folder / "torch" / "hub" / "checkpoints" / network_card(NETWORK).entry().file
    checkpoint.parent.mkdir(parents=True)
    torch.save(det_state("fid_inception", inception_v3_fid.build()), checkpoint)
    for side, name in SIDES.items():
        with np.load(PICTURES / f"{name}.npz") as archive:
            frames = archive["x"]
        videos = [
            write_clip(folder / "videos" / side / f"{start:02}.mkv", frames[start : start + 4])
            for start in range(0, len(frames), 4)
        ]
        (folder / "pictures" / side).mkdir(parents=True)
        videos.sort(key=lambda video: hashlib.sha256(video.read_bytes()).digest())
        for number, video in enumerate(videos):
            pictures = str(folder / "pictures" / side / f"{number:02}-%02d.png")
            command = [ffmpeg_binary(), "-v", "error", "-i", str(video), pictures]
            subprocess.run(command, check=True)
    return Material(folder / "videos", folder / "pictures", folder / "torch", checkpoint)


def test_torch_fidelity_gives_our_numbers(material, tmp_path, aigve):
    printed = material.run_peer(
        *("torch_fidelity.fidelity", "--input1", "generated", "--input2", "reference", "--cpu"),
        *("--fid", "--kid", "--isc", "--prc", "--kid-subset-size", str(SUBSET), "--json"),
        # Without this, precision and recall are those of another network.
        *("--feature-extractor", "inception-v3-compat", "--no-cache", "--silent"),
        *("--feature-extractor-weights-path", str(material.checkpoint), "--batch-size", "8"),
    )
    theirs = json.loads(printed)
    ours = material.run_aigve(
        *(aigve, tmp_path, "--metrics", "fid,kid,is,prdc"),
        *("--set", "kid.estimator=subsets", "--set", f"kid.subset-size={SUBSET}"),
    )
    fid, kid, score = (ours[name] for name in ("fid", "kid", "is"))
    assert theirs["frechet_inception_distance"] == pytest.approx(fid["value"], rel=FRECHET)
    assert theirs["kernel_inception_distance_mean"] == pytest.approx(kid["value"], abs=KERNEL)
    deviation = kid["details"]["subset_deviation"]
    assert theirs["kernel_inception_distance_std"] == pytest.approx(deviation, abs=KERNEL)
    # Features agree to 5e-7. Deterministic weights tell classes hardly apart: the score is near 1.
    assert theirs["inception_score_mean"] - 1 == pytest.approx(score["value"] - 1, rel=1e-5)
    deviation = score["details"]["split_deviation"]
    assert theirs["inception_score_std"] == pytest.approx(deviation, rel=1e-5)
    # Shares of rows in float32.
    assert theirs["precision"] == pytest.approx(ours["precision"]["value"], rel=1e-6)
    assert theirs["recall"] == pytest.approx(ours["recall"]["value"], rel=1e-6)


@pytest.mark.parametrize("dims", [192, 2048])
def test_pytorch_fid_gives_our_number(dims, material, tmp_path, aigve):
    printed = material.run_peer(
        *("pytorch_fid", "generated", "reference", "--dims", str(dims), "--device", "cpu"),
        *("--num-workers", "0", "--batch-size", "8"),
    )
    theirs = re.fullmatch(r"FID: +(\S+)\n", printed)
    assert theirs, printed
    ours = material.run_aigve(
        *(aigve, tmp_path, "--metrics", "fid", "--set", "fid.convention=pytorch-fid"),
        *("--set", f"fid.dims={dims}"),
    )
    assert float(theirs[1]) == pytest.approx(ours["fid"]["value"], rel=FRECHET)
