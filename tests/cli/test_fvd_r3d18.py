"""``--fvd-model`` as tools before aigve took it: I3D is fvd, R3D-18 is fvd-r3d18 and says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aigve_cli.commands.computing import _other_fvd
from aigve_cli.contract import Extent
from aigve_cli.engine.networks import checkpoint_network
from aigve_cli.engine.plan import plan_metric
from aigve_cli.errors import WeightsError
from aigve_cli.registry import registry
from tests.conftest import Done, moving_pattern, read_results, write_clip
from tests.networks.checkpoints import I3D, R3D, write_checkpoint

Compute = Callable[..., Done]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both networks' checkpoints, under names that say nothing."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {
        name: write_checkpoint(folder / name, name).rename(folder / f"{number}.pt")
        for number, name in enumerate((I3D, R3D))
    }


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs of nine frames: the fewest that I3D takes."""
    folder = tmp_path_factory.mktemp("videos")
    for seed in range(2):
        write_clip(folder / f"{seed}.mkv", moving_pattern(seed, 9))
        write_clip(folder / f"{seed}_synthetic.mkv", moving_pattern(seed + 10, 9))
    return folder


@pytest.fixture
def compute(videos: Path, tmp_path: Path, aigve: Callable[..., Done]) -> Compute:
    def run(*arguments: object) -> Done:
        return aigve(
            *("compute", "--input-dir", videos, "--output-dir", tmp_path / "out", "--use-cpu"),
            *("--set", "fvd.length=9", *arguments),
        )

    return run


def record_of(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    document = read_results(folder)
    (record,) = document["results"]
    return document, record


def test_an_i3d_checkpoint_is_fvd(checkpoints, compute, tmp_path):
    done = compute("--metrics", "fvd", "--fvd-model", checkpoints[I3D])
    assert done.code == 0, done.stderr
    document, record = record_of(tmp_path / "out")
    assert (record["metric"], record["requested"]) == ("fvd", "fvd")
    assert record["weights"] == "custom"
    assert record["networks"][0]["name"] == I3D
    assert record["value"] > 0
    assert document["substitutions"] == []
    assert (tmp_path / "out" / "fvd_results.json").is_file()
    assert not (tmp_path / "out" / "fvd-r3d18_results.json").exists()


def test_an_r3d_checkpoint_is_another_metric(checkpoints, compute, tmp_path):
    path = checkpoints[R3D]
    done = compute("--metrics", "fvd", "--fvd-model", path)
    assert done.code == 0, done.stderr
    document, record = record_of(tmp_path / "out")
    assert (record["metric"], record["requested"]) == ("fvd-r3d18", "fvd")
    assert record["value_name"] == "fvd-r3d18"
    assert record["weights"] == "custom"
    assert [network["name"] for network in record["networks"]] == [R3D]
    # What was set for fvd holds for what is computed instead.
    assert record["options"]["length"] == 9
    assert record["value"] > 0
    (substitution,) = document["substitutions"]
    assert (substitution["requested"], substitution["metric"]) == ("fvd", "fvd-r3d18")
    assert substitution["why"] == f"{path}, given with --fvd-model, is a checkpoint of {R3D}."
    assert "fvd-r3d18 for fvd" in done.stderr
    assert (tmp_path / "out" / "fvd-r3d18_results.json").is_file()
    assert not (tmp_path / "out" / "fvd_results.json").exists()


def test_a_broken_checkpoint_ends_the_command(compute, tmp_path):
    page = tmp_path / "page.pt"
    page.write_bytes(b"<!doctype html>")
    done = compute("--metrics", "fvd", "--fvd-model", page)
    assert done.code == 4
    assert str(page) in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_convention_of_fvd_says_nothing_about_the_other():
    settings = {"fvd": {"convention": "videogpt", "length": 10}}
    other = plan_metric(registry(), "fvd", "fvd-r3d18", settings=settings, extent=Extent())
    assert (other.options["convention"], other.options["length"]) == ("torchvision", 10)


def test_which_network_a_checkpoint_is_of(checkpoints):
    for name, path in checkpoints.items():
        assert checkpoint_network(path, (I3D, R3D)) == name
        assert checkpoint_network(path, (R3D, I3D)) == name


def test_a_file_that_is_of_neither_stays_with_fvd(tmp_path):
    broken = tmp_path / "cut.pt"
    broken.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(WeightsError, match=r"cut\.pt cannot be read as a checkpoint"):
        _other_fvd({I3D: broken})
    for path in (tmp_path, tmp_path / "none.pt"):
        models = {I3D: path}
        assert _other_fvd(models) == {}
        assert models == {I3D: path}


def test_a_checkpoint_of_r3d_moves_to_its_own_network(checkpoints):
    models = {I3D: checkpoints[R3D]}
    other = _other_fvd(models)
    assert other["fvd"].metric == "fvd-r3d18"
    assert models == {R3D: checkpoints[R3D]}


def test_only_by_name():
    found = registry()
    assert "fvd-r3d18" in found.metrics
    assert "fvd-r3d18" not in found.in_category("distribution_based")
    assert "fvd-r3d18" not in found.substitutes.values()
