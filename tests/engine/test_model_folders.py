"""Models as folders: what of them is refused before a run, and what must not matter in one."""

from __future__ import annotations

import os
import shutil
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aigve_models import clip

from aigve_cli import api, evaluate
from aigve_cli.contract import AsPublished, Card, Extent, Frames, Grey, Metric, Request, Value
from aigve_cli.engine import producers
from aigve_cli.engine.networks import folder_to_picture_size, load_network
from aigve_cli.engine.plan import plan_metric
from aigve_cli.engine.preprocessing import folder_to_view
from aigve_cli.errors import SetupError, UsageError, WeightsError
from aigve_cli.registry import registry
from aigve_cli.video.sampling import FirstFrames
from aigve_cli.weights import locate_weights, network_card, weights_policy
from tests.conftest import moving_pattern, read_results, write_clip
from tests.engine.watched import TINY, listed, models, values
from tests.networks.model_folders import write_processor

CROPPED: dict[str, Any] = {
    "size": {"shortest_edge": 32},
    "crop_size": {"height": 32, "width": 32},
    "do_center_crop": True,
}
FRAMES = 3
# Other places in memory are other sums in float32.
SAME = 1e-6


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no hub"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seed, name in enumerate(("a.mkv", "b.mkv")):
        write_clip(folder / name, moving_pattern(seed, FRAMES, height=40, width=56))
    return folder


# --- image processors that are broken ---------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("CLIP", {"crop_size": {"width": 32}}),
        ("CLIP", {"crop_size": {"height": None, "width": 32}}),
        ("CLIP", {"crop_size": None}),
        ("CLIP", {"size": None}),
        ("CLIP", {"size": {}}),
        ("CLIP", {"size": {"shortest_edge": "large"}}),
        ("Blip", {"size": None}),
        ("Blip", {"size": {"height": None, "width": 32}}),
        ("CLIP", {"rescale_factor": 0}),
        ("CLIP", {"rescale_factor": None}),
        ("CLIP", {"rescale_factor": "1/255"}),
        ("CLIP", {"rescale_factor": 1e-320}),
        ("CLIP", {"image_mean": [0.5]}),
        ("CLIP", {"image_mean": [0.5, 0.5]}),
        ("CLIP", {"image_mean": [0.5, 0.5, 0.5, 0.5]}),
        ("CLIP", {"image_mean": None}),
        ("CLIP", {"image_std": [0.5, 0, 0.5]}),
        ("CLIP", {"image_std": 0}),
        ("CLIP", {"image_std": [0.5, -0.5, 0.5]}),
        ("CLIP", {"image_std": ["red", "green", "blue"]}),
        ("CLIP", {"image_std": None}),
        ("CLIP", {"image_std": float("inf")}),
        ("CLIP", {"image_std": [0.5, float("nan"), 0.5]}),
        ("CLIP", {"image_mean": [float("nan")] * 3}),
        ("CLIP", {"rescale_factor": float("inf")}),
        ("CLIP", {"rescale_factor": -1 / 255}),
        ("CLIP", {"crop_size": {"height": 0, "width": 32}}),
        ("CLIP", {"crop_size": {"height": 32, "width": -1}}),
    ],
)
@pytest.mark.parametrize("how", ["standard", "aigve", "evalcrafter"])
def test_a_broken_image_processor(tmp_path, kind, changed, how):
    write_processor(tmp_path, kind, **{**(CROPPED if kind == "CLIP" else {}), **changed})
    with pytest.raises(WeightsError) as caught:
        folder_to_view(tmp_path, how)
    assert f"The image processor in {tmp_path} " in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


# --- requests that no folder can answer -------------------------------------------------------


def look(*view: Any) -> Frames:
    return Frames(view, FirstFrames(None))


@pytest.mark.parametrize(
    "asked",
    [
        Request("clip:image", (look(AsPublished(), Grey()),)),
        Request("clip:image", (look(Grey(), AsPublished()),)),
        Request("clip:image", (look(AsPublished(), AsPublished("aigve")),)),
        Request("vgg16:taps", (look(AsPublished()),)),
        # Inside another request, it is found as well.
        Request("gstvqa:score", (Request("vgg16:taps", (look(AsPublished()),)),)),
    ],
)
def test_what_a_folder_says_is_all_or_nothing(asked):
    with pytest.raises(UsageError, match="only a model's folder says how pictures are prepared"):
        plan_made_up(asked)


def test_what_a_folder_says_alone_is_planned():
    asked = Request("clip:image", (look(AsPublished("aigve")),))
    assert plan_made_up(asked).requests == {"asked": asked}


def plan_made_up(request: Request) -> Any:
    """A metric of single videos that asks for ``request``."""

    class MadeUp(Metric):
        card = Card("made-up", "…", "multi_faceted", (Value("made-up", "higher"),), 1)

        def requests(self, options, extent):
            return {"asked": request}

        def score(self, features, sample, options):
            raise NotImplementedError

    found = registry()
    found = replace(found, metrics={**found.metrics, "made-up": MadeUp})
    return plan_metric(found, "made-up", "made-up", settings={}, extent=Extent())


# --- where a folder is, and how it is written -------------------------------------------------


@pytest.fixture
def inside(tmp_path, monkeypatch) -> Path:
    """The current folder, with a model in it."""
    place = tmp_path / "inside"
    shutil.copytree(TINY["clipsim"], place / "model")
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def leaving(tmp_path, monkeypatch) -> list[Path]:
    """The process goes elsewhere once a run is planned."""
    elsewhere, left = tmp_path / "elsewhere", []
    elsewhere.mkdir()
    resolve = api.resolve_plan

    def resolve_elsewhere(*given: Any, **named: Any) -> Any:
        left.append(Path.cwd())
        os.chdir(elsewhere)
        return resolve(*given, **named)

    monkeypatch.setattr(api, "resolve_plan", resolve_elsewhere)
    return left


RELATIVE = {
    "model=": {"options": {name: {"model": "model"} for name in ("clipsim", "cliptemp")}},
    "--model": {"models": {"clip": Path("model")}},
    "--weights-dir": {"weights_dir": "weights"},
}


@pytest.mark.parametrize("how", RELATIVE)
def test_a_relative_folder_is_that_of_the_moment_it_was_named(
    inside, leaving, videos, tmp_path, how
):
    shutil.copytree(inside / "model", inside / "weights" / network_card("clip").entry().file)
    evaluate(
        videos,
        prompt="a cat",
        metrics="clipsim,cliptemp",
        device="cpu",
        output_dir=tmp_path / "out",
        **RELATIVE[how],
    )
    assert leaving == [inside]
    document = read_results(tmp_path / "out")
    assert None not in [record["value"] for record in document["results"]]
    (described,) = document["results"][0]["networks"]
    if how != "--weights-dir":
        assert described["tag"] == str(inside / "model")


@pytest.mark.parametrize(
    "other", ["./model", "model/", "../inside/model", "{inside}/model", "link"]
)
def test_a_folder_has_one_spelling(inside, videos, tmp_path, other):
    (inside / "link").symlink_to("model")
    evaluate(
        videos,
        prompt="a cat",
        metrics="clipsim,cliptemp",
        options={
            "clipsim": {"model": "model"},
            "cliptemp": {"model": other.format(inside=inside)},
        },
        device="cpu",
        output_dir=tmp_path / "out",
    )
    document = read_results(tmp_path / "out")
    assert document["counts"]["looked"] == {f"clip:{inside / 'model'}": 2 * FRAMES}


# --- texts in memory --------------------------------------------------------------------------


def test_rows_of_few_texts_are_kept_and_scores_are_the_same(videos, tmp_path, monkeypatch):
    first = [("a.mkv", text) for text in ("a cat", "a dog", "the night")]
    entries = [*first, ("b.mkv", "a cat")]

    def scored(name: str) -> tuple[dict[str, float | None], dict[str, int]]:
        evaluate(
            annotations=listed(tmp_path / f"{name}.json", entries),
            video_dir=videos,
            metrics="clipsim",
            options=models("clipsim"),
            device="cpu",
            decode_workers=1,
            output_dir=tmp_path / name,
        )
        document = read_results(tmp_path / name)
        return values(document, "clipsim"), document["counts"]["read"]

    usual, read = scored("usual")
    assert read == {f"clip:{TINY['clipsim']}": 3}
    monkeypatch.setattr(producers, "TEXTS_KEPT", 2)
    bounded, read = scored("bounded")
    # The first went for the third, and is read again.
    assert read == {f"clip:{TINY['clipsim']}": 4}
    assert None not in usual.values()
    assert bounded == pytest.approx(usual, abs=SAME)


# --- transformers that is there and does not import -------------------------------------------


@pytest.fixture
def broken_transformers(monkeypatch) -> None:
    """As its lazy modules fail where torchvision, say, is of another release than torch."""

    class Broken(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            raise ModuleNotFoundError(
                f"Could not import module '{name}'. Are this object's requirements defined "
                "correctly?\nMore lines."
            )

    broken = Broken("transformers")
    monkeypatch.setitem(sys.modules, "transformers", broken)
    monkeypatch.setattr(clip, "transformers", broken)


def view() -> object:
    return folder_to_view(TINY["clipsim"])


def size() -> object:
    card = network_card("clip")
    return folder_to_picture_size(card, located())


def load() -> object:
    return load_network(network_card("clip"), located(), device="cpu")


def located() -> Any:
    return locate_weights(network_card("clip"), weights_policy(), tag=str(TINY["clipsim"]))


@pytest.mark.parametrize("step", [view, size, load])
def test_transformers_that_does_not_import(broken_transformers, step):
    with pytest.raises(SetupError) as caught:
        step()
    assert caught.value.exit_code == 4
    message = caught.value.message
    assert message.startswith("transformers cannot be imported: Could not import module '")
    assert "\n" not in message
    assert "aigve doctor" in caught.value.hint


def test_transformers_that_does_not_import_ends_a_run(broken_transformers, videos, tmp_path):
    with pytest.raises(SetupError, match="transformers cannot be imported"):
        evaluate(
            videos,
            metrics="cliptemp",
            options=models("cliptemp"),
            device="cpu",
            output_dir=tmp_path / "out",
        )
    assert not (tmp_path / "out" / "results.json").exists()
