"""What must not change a number: batches, workers, names and order of files."""

from __future__ import annotations

import shutil

import pytest
import torch

from aigve_cli import evaluate
from aigve_cli.engine import passes

METRICS = ("fid-lite0", "kid-lite0", "is-lite0", "fvd-lite0")


@pytest.fixture(scope="module")
def usual(pairs, tmp_path_factory):
    return evaluate(pairs, metrics=METRICS, device="cpu", output_dir=tmp_path_factory.mktemp("u"))


def exact(results):
    return {r["value_name"]: (r["value"], r["standard_error"]) for r in results.records}


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batch_size(pairs, usual, tmp_path, batch_size):
    results = evaluate(
        pairs, metrics=METRICS, device="cpu", output_dir=tmp_path, batch_size=batch_size
    )
    for record in results.records:
        # Float32 sums inside the network take another order: 1e-7 of a feature.
        assert record["value"] == pytest.approx(usual.value(record["value_name"]), rel=1e-6)


@pytest.mark.parametrize("workers", [1, 5])
def test_decode_workers(pairs, usual, tmp_path, workers):
    results = evaluate(
        pairs, metrics=METRICS, device="cpu", output_dir=tmp_path, decode_workers=workers
    )
    assert exact(results) == exact(usual)


def test_chunk_size(pairs, usual, tmp_path, monkeypatch):
    monkeypatch.setattr("aigve_cli.video.prefetch.CHUNK_FRAMES", 3)
    results = evaluate(pairs, metrics=METRICS, device="cpu", output_dir=tmp_path)
    assert exact(results) == exact(usual)


def test_names_and_so_the_order_of_files(pairs, usual, tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for index, new in enumerate([2, 0, 3, 1]):
        shutil.copy(pairs / f"clip{index}.mkv", videos / f"{new} other, name.mkv")
        shutil.copy(
            pairs / f"clip{index}_synthetic.mkv", videos / f"{new} other, name-generated.mkv"
        )
    results = evaluate(videos, metrics=METRICS, device="cpu", output_dir=tmp_path / "out")
    assert exact(results) == exact(usual)


def test_metrics_alone_or_together(pairs, usual, tmp_path):
    for name in METRICS:
        alone = evaluate(pairs, metrics=[name], device="cpu", output_dir=tmp_path / name)
        assert exact(alone)[name] == exact(usual)[name]


def test_one_network_pass_for_all_metrics(pairs, tmp_path, monkeypatch):
    seen = []

    class Counted(torch.nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, images):
            seen.append(len(images))
            return self.network(images)

    load = passes.load_network
    monkeypatch.setattr(passes, "load_network", lambda *args, **kw: Counted(load(*args, **kw)))
    results = evaluate(pairs, metrics=METRICS, device="cpu", output_dir=tmp_path)
    assert sum(seen) == 8 * 18
    assert results.document["counts"]["looked"] == {"efficientnet-lite0": 8 * 18}
    assert results.document["counts"]["read"] == {}


def test_a_reference_that_many_share_is_decoded_and_counted_once(pairs, tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for index in range(2):
        shutil.copy(pairs / f"clip{index}.mkv", videos / f"clip{index}.mkv")
    for index in range(4):
        shutil.copy(
            pairs / f"clip{index}_synthetic.mkv", videos / f"clip{index // 2}_synthetic_{index}.mkv"
        )
    results = evaluate(videos, metrics=["fid-lite0"], device="cpu", output_dir=tmp_path / "out")
    (record,) = results.records
    assert record["videos"]["videos"] == 4
    assert record["references"]["videos"] == 2
    assert results.document["counts"]["decodes"] == 6
