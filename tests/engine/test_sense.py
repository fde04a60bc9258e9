"""Do the distances measure what they should, on real generated clips?"""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from aigve_cli import evaluate
from aigve_cli.video.decode import VideoReader
from aigve_cli.video.encode import GOOD, LOSSLESS, file_to_copy, frames_to_file

DISTANCES = ("fid-lite0", "kid-lite0", "fvd-lite0")


def crf(value: int) -> tuple[str, ...]:
    return ("-c:v", "libx264", "-crf", str(value), "-preset", "veryfast", "-pix_fmt", "yuv420p")


LADDERS = {
    "blur": [(f"gblur=sigma={sigma}", GOOD) for sigma in (1, 2, 5)],
    "noise": [(f"noise=alls={level}:allf=t", GOOD) for level in (10, 30, 80)],
    "compression": [("", crf(value)) for value in (24, 36, 48)],
}


@pytest.fixture(scope="module")
def references(media, tmp_path_factory):
    """Four real clips of 16 frames, at half their size."""
    folder = tmp_path_factory.mktemp("references")
    for index, path in enumerate(sorted((media / "lavie").glob("*.mp4"))[:4]):
        file_to_copy(path, folder / f"{index}.mkv", filters="scale=256:256", codec=LOSSLESS)
    return folder


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """One output folder: references are decoded once for all steps."""
    return tmp_path_factory.mktemp("output")


@pytest.mark.parametrize("kind", LADDERS)
def test_distances_grow_with_degradation(references, output, tmp_path, kind):
    values = []
    for step, (filters, codec) in enumerate(LADDERS[kind]):
        folder = tmp_path / f"{step}"
        folder.mkdir()
        for path in references.iterdir():
            file_to_copy(path, folder / f"{path.stem}.mp4", filters=filters, codec=codec)
        results = evaluate(
            folder,
            references,
            metrics=DISTANCES,
            device="cpu",
            output_dir=output,
            keep_features=True,
        )
        values.append([results.value(name) for name in DISTANCES])
    for weaker, stronger in pairwise(values):
        assert all(a < b for a, b in zip(weaker, stronger, strict=True)), values


def test_order_of_frames_is_seen_by_fvd_and_hardly_by_fid(media, tmp_path):
    clips = {}
    for path in sorted((media / "cogvideox").glob("*.mp4"))[:3]:
        small = tmp_path / f"{path.stem}.mkv"
        file_to_copy(path, small, filters="scale=320:-2", codec=LOSSLESS)
        with VideoReader(small, frames=32) as reader:
            clips[path.stem] = list(reader)

    def shuffled(frames):
        return random.Random(0).sample(frames, len(frames))

    def frozen(frames):
        return [frames[index // 8 * 8] for index in range(len(frames))]

    def dropped(frames):
        return frames[::2]

    changes = {"same": list, "shuffled": shuffled, "frozen": frozen, "dropped": dropped}
    fid, fvd = {}, {}
    for name, change in {"references": list, **changes}.items():
        for stem, frames in clips.items():
            (tmp_path / name).mkdir(exist_ok=True)
            frames_to_file(change(frames), tmp_path / name / f"{stem}.mkv", fps=16, codec=LOSSLESS)
    for name in changes:
        results = evaluate(
            tmp_path / name,
            tmp_path / "references",
            metrics=["fid-lite0", "fvd-lite0"],
            device="cpu",
            output_dir=tmp_path / "output",
            keep_features=True,
        )
        fid[name], fvd[name] = results.value("fid-lite0"), results.value("fvd-lite0")
    # The same frames in another order: what is left is how whole sets are summed.
    assert fid["shuffled"] == pytest.approx(0, abs=1e-6)
    assert fvd["same"] == pytest.approx(0, abs=1e-6)
    for name in ("shuffled", "frozen", "dropped"):
        assert fvd[name] > 1, (name, fvd)
    assert fvd["shuffled"] > 1e4 * fid["shuffled"]
