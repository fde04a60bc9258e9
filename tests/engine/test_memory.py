"""Large models: in which numbers they are loaded, whether they fit, and in how many passes."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from safetensors.torch import save_file

from aigve_cli import evaluate
from aigve_cli.api import Results
from aigve_cli.engine import memory, networks, passes
from aigve_cli.engine.kept import KeptNetworks
from aigve_cli.engine.memory import (
    WORKING_BYTES,
    Memory,
    Place,
    group_by_memory,
    large_numbers,
    model_bytes,
)
from aigve_cli.engine.plan import PlannedMetric
from aigve_cli.errors import SetupError
from aigve_cli.main import main
from aigve_cli.registry import registry
from aigve_cli.weights import Located, network_card
from tests.conftest import moving_pattern, read_results, write_clip
from tests.judges.scripted_endpoint import scripted_endpoint
from tests.networks.owl_folders import write_owl
from tests.networks.score_folders import write_videoscore

SCORES, PHYSICS = "videoscore", "videophy"
VIDEOS = 3
WORKING = 2 * WORKING_BYTES
"""In float32."""
PLENTY = WORKING + (1 << 30)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By network."""
    folder = tmp_path_factory.mktemp("models")
    return {
        SCORES: write_videoscore(folder / SCORES),
        PHYSICS: write_owl(folder / PHYSICS),
    }


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seed in range(VIDEOS):
        write_clip(folder / f"clip{seed}.mkv", moving_pattern(seed, 6))
    return folder


def sizes(models: dict[str, Path], numbers: str = "float32") -> dict[str, int]:
    return {name: model_bytes(path, numbers) for name, path in models.items()}


def free(monkeypatch: pytest.MonkeyPatch, main: int, gpu: int | None = None) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda _device: Memory(main, gpu))


def run(videos: Path, models: dict[str, Path], folder: Path, **more: Any) -> Results:
    return evaluate(
        videos,
        prompt="a red ball",
        metrics=",".join(models),
        options={name: {"model": str(path)} for name, path in models.items()},
        device="cpu",
        output_dir=folder,
        **more,
    )


def numbers_of(results: Results) -> dict[str, float | None]:
    return {record["value_name"]: record["value"] for record in results.records}


# --- how large --------------------------------------------------------------------------------


def test_bytes_are_those_of_the_weights(models: dict[str, Path]) -> None:
    files = models[PHYSICS].glob("*.safetensors")
    numbers = sum(tensor.numel() for path in files for tensor in _tensors(path))
    assert model_bytes(models[PHYSICS], "float32") == 4 * numbers
    assert model_bytes(models[PHYSICS], "bfloat16") == 2 * numbers


def _tensors(path: Path) -> list[torch.Tensor]:
    from safetensors.torch import load_file

    return list(load_file(path).values())


def test_bytes_of_a_model_that_is_saved_in_halves(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(10, 5, dtype=torch.bfloat16)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    assert model_bytes(tmp_path, "float32") == 200
    assert model_bytes(tmp_path, "bfloat16") == 100
    # As it is saved, with its head.
    assert model_bytes(tmp_path, "auto") == (tmp_path / "model.safetensors").stat().st_size


def test_bytes_of_pickled_weights_follow_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(bytes(1000))
    (tmp_path / "config.json").write_text(json.dumps({"torch_dtype": "bfloat16"}))
    assert model_bytes(tmp_path, "bfloat16") == 1000
    assert model_bytes(tmp_path, "float32") == 2000


@pytest.mark.parametrize(
    ("stated", "choice", "device", "numbers"),
    [
        ("bfloat16", "auto", "cuda", "bfloat16"),
        ("bfloat16", "auto", "cpu", "float32"),
        ("bfloat16", "fp32", "cuda", "float32"),
        ("bfloat16", "tf32", "cuda", "float32"),
        ("bfloat16", "bf16", "cpu", "bfloat16"),
        ("auto", "auto", "cpu", "auto"),
        ("auto", "bf16", "cuda", "bfloat16"),
    ],
)
def test_numbers_of_a_large_model(stated: str, choice: Any, device: str, numbers: str) -> None:
    assert large_numbers(stated, choice, device) == numbers


# --- what fits together -----------------------------------------------------------------------


def planned(name: str) -> PlannedMetric:
    return PlannedMetric(name, name, registry().metrics["is"](), {}, {})


NEEDS = st.lists(st.frozensets(st.sampled_from("abcd"), max_size=2), min_size=1, max_size=6)
SIZES = st.fixed_dictionaries({name: st.integers(1, 10) for name in "abcd"})


@settings(deadline=None)
@given(needs=NEEDS, sizes=SIZES, room=st.integers(1, 25))
def test_every_metric_has_one_pass_and_no_pass_is_too_large_for_two(
    needs: list[frozenset[str]], sizes: dict[str, int], room: int
) -> None:
    asked = [(planned(f"m{index}"), need) for index, need in enumerate(needs)]
    groups = group_by_memory(asked, sizes, room)
    assert sorted(p.name for group in groups for p in group) == sorted(p.name for p, _ in asked)
    needs_of = {p.name: need for p, need in asked}
    for group in groups:
        loaded = frozenset[str]().union(*(needs_of[p.name] for p in group))
        largest = max((needs_of[p.name] for p in group), key=lambda n: sum(sizes[x] for x in n))
        # Only a metric whose own models are too large may go beyond; it is then alone with them.
        assert sum(sizes[name] for name in loaded) <= room or loaded == largest


def test_metrics_without_a_large_model_are_in_the_first_pass() -> None:
    asked = [
        (planned("one"), frozenset("a")),
        (planned("two"), frozenset("b")),
        (planned("small"), frozenset[str]()),
        (planned("again"), frozenset("b")),
    ]
    groups = group_by_memory(asked, {"a": 6, "b": 6}, 10)
    assert [[p.name for p in group] for group in groups] == [["one", "small"], ["two", "again"]]


# --- runs -------------------------------------------------------------------------------------


def test_two_passes_give_the_numbers_of_one(
    models: dict[str, Path], videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[set[str]] = []
    load = passes.load_network

    def watched(card: Any, *rest: Any, **more: Any) -> Any:
        loaded[-1].add(card.name)
        return load(card, *rest, **more)

    look = passes.Passes._look

    def counted(self: passes.Passes, *rest: Any) -> Any:
        loaded.append(set())
        return look(self, *rest)

    monkeypatch.setattr(passes, "load_network", watched)
    monkeypatch.setattr(passes.Passes, "_look", counted)
    free(monkeypatch, PLENTY)
    once = run(videos, models, tmp_path / "once")
    free(monkeypatch, WORKING + max(sizes(models).values()))
    twice = run(videos, models, tmp_path / "twice")
    assert numbers_of(twice) == numbers_of(once)
    assert None not in numbers_of(once).values()
    assert loaded == [{SCORES, PHYSICS}, {SCORES}, {PHYSICS}]
    counts = once.document["counts"], twice.document["counts"]
    assert [count["passes"] for count in counts] == [1, 2]
    assert [count["decodes"] for count in counts] == [VIDEOS, 2 * VIDEOS]
    # What each network has looked at is counted over all passes.
    assert counts[0]["looked"] == counts[1]["looked"]
    assert read_results(tmp_path / "twice")["videos"] == read_results(tmp_path / "once")["videos"]


@pytest.mark.parametrize("judged", [False, True])
def test_what_a_pass_has_loaded_is_gone_before_the_next_one_loads(
    models: dict[str, Path],
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    judged: bool,
) -> None:
    """Runs and loaders hold one another in circles, and a judge's desk outlives its pass."""
    alive: list[int] = []
    seen: list[weakref.ref[Any]] = []
    load = passes.load_network

    def watched(card: Any, *rest: Any, **more: Any) -> Any:
        alive.append(sum(network() is not None for network in seen))
        network = load(card, *rest, **more)
        seen.append(weakref.ref(network))
        return network

    monkeypatch.setattr(passes, "load_network", watched)
    free(monkeypatch, WORKING + max(sizes(models).values()))
    with scripted_endpoint('{"score": [5], "reasoning": "so it is"}') as endpoint:
        asked = {"judge": "openai:scripted", "judge_url": endpoint.url} if judged else {}
        results = evaluate(
            videos,
            prompt="a red ball",
            metrics=",".join([*models, *(["viescore"] if judged else [])]),
            options={name: {"model": str(path)} for name, path in models.items()},
            judge_cache=tmp_path / "answers",
            device="cpu",
            output_dir=tmp_path / "scores",
            **asked,
        )
        assert bool(endpoint.requests) == judged
    assert results.document["counts"]["passes"] == 2
    assert alive == [0, 0]


def test_models_that_stay_loaded_are_counted_as_what_they_are_of_use_for(
    models: dict[str, Path], videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between runs of a server: the same model again, in other numbers, and two that do not fit."""
    loaded: list[str] = []
    alive: list[int] = []
    seen: list[weakref.ref[Any]] = []
    load = passes.load_network

    def watched(card: Any, *rest: Any, **more: Any) -> Any:
        loaded.append(card.name)
        alive.append(sum(network() is not None for network in seen))
        network = load(card, *rest, **more)
        seen.append(weakref.ref(network))
        return network

    monkeypatch.setattr(passes, "load_network", watched)
    only = {SCORES: models[SCORES]}
    size = sizes(models)
    room = WORKING + size[SCORES]
    kept = KeptNetworks(10**9)
    # What is free falls by what is kept, as it does of a real memory.
    monkeypatch.setattr(memory, "free_memory", lambda _device: Memory(room - kept.bytes, None))
    first = run(videos, only, tmp_path / "first", kept=kept)
    again = run(videos, only, tmp_path / "again", kept=kept)
    assert numbers_of(again) == numbers_of(first)
    assert loaded == [SCORES]
    # Half the numbers are another model: the whole one has to go, and does.
    run(videos, only, tmp_path / "half", precision="bf16", kept=kept)
    run(videos, only, tmp_path / "whole", kept=kept)
    assert loaded == [SCORES] * 3
    assert alive == [0, 0, 0]
    # Two that do not fit together: the first has gone when the second comes.
    room = WORKING + max(size.values())
    both = run(videos, models, tmp_path / "both", kept=kept)
    assert both.document["counts"]["passes"] == 2
    assert alive[3:] == [0]
    assert loaded[3:] == [PHYSICS]


def test_passes_and_set_metrics(
    models: dict[str, Path], pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features that the first pass has stored are compared after the second."""
    both = {**models, "fid-lite0": ""}

    def values(folder: str) -> dict[str, float | None]:
        return numbers_of(
            evaluate(
                pairs,
                prompt="a red ball",
                metrics=",".join(both),
                options={name: {"model": str(path)} for name, path in models.items()},
                device="cpu",
                max_len=4,
                output_dir=tmp_path / folder,
            )
        )

    free(monkeypatch, PLENTY)
    once = values("once")
    free(monkeypatch, WORKING + max(sizes(models).values()))
    assert values("twice") == once
    assert once["fid-lite0"] is not None


def test_a_run_that_is_interrupted_in_its_second_pass_does_only_that_again(
    models: dict[str, Path], videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, WORKING + max(sizes(models).values()))
    load = passes.load_network

    def interrupted(card: Any, *rest: Any, **more: Any) -> Any:
        if card.name == PHYSICS:
            raise KeyboardInterrupt
        return load(card, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(passes, "load_network", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(videos, models, tmp_path / "scores")
    resumed = run(videos, models, tmp_path / "scores")
    assert resumed.document["counts"]["decodes"] == VIDEOS
    assert set(resumed.document["counts"]["looked"]) == {f"{PHYSICS}:{models[PHYSICS]}"}
    assert numbers_of(resumed) == numbers_of(run(videos, models, tmp_path / "whole"))


def test_a_model_that_fits_nowhere_costs_no_other(
    models: dict[str, Path], videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = sorted(models, key=sizes(models).__getitem__)
    free(monkeypatch, WORKING + sizes(models)[small])
    results = run(videos, models, tmp_path)
    assert results.exit_code == 3
    by_metric: dict[str, set[bool]] = {}
    for record in results.records:
        by_metric.setdefault(record["metric"], set()).add(record["value"] is None)
    assert by_metric == {small: {False}, large: {True}}
    (reason,) = {r["reason"] for r in results.records if r["metric"] == large}
    assert reason.startswith(f"{large} needs about 6.4 GB, for its model in float32")
    assert "--precision bf16 needs half of it" in reason


def test_no_model_that_fits_is_an_error_before_anything_is_decoded(
    models: dict[str, Path], videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, WORKING + 10)
    with pytest.raises(SetupError, match="of main memory are free") as caught:
        run(videos, models, tmp_path / "scores")
    assert caught.value.exit_code == 4
    assert "--precision bf16" in str(caught.value.hint)
    assert not (tmp_path / "scores" / "results.json").exists()


def test_halves_fit_where_whole_numbers_do_not(
    models: dict[str, Path], videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = {PHYSICS: models[PHYSICS]}
    free(monkeypatch, WORKING_BYTES + sizes(models, "bfloat16")[PHYSICS])
    with pytest.raises(SetupError):
        run(videos, only, tmp_path / "whole")
    halves = run(videos, only, tmp_path / "halves", precision="bf16")
    assert {record["precision"] for record in halves.records} == {"bf16"}


def test_a_model_that_would_not_fit_is_not_fetched(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its published size; the message is not about a network that cannot be reached."""
    monkeypatch.delenv("AIGVE_OFFLINE")
    monkeypatch.setattr("aigve_cli.api.resolve_plan", lambda *_a, **_k: pytest.fail("it looked"))
    free(monkeypatch, 30 << 30)
    with pytest.raises(SetupError, match=r"videoscore needs about 39\.4 GB"):
        evaluate(videos, prompt="a ball", metrics=SCORES, device="cpu", output_dir=tmp_path)


def test_other_numbers_are_other_scores(
    models: dict[str, Path], videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the processor: what bfloat16 moves on a tiny model, and that nothing is mixed up."""
    only = {SCORES: models[SCORES]}
    whole = run(videos, only, tmp_path / "whole")
    halves = run(videos, only, tmp_path / "halves", precision="bf16")
    assert {record["precision"] for record in whole.records} == {"fp32"}
    assert {record["precision"] for record in halves.records} == {"bf16"}
    # A large model computes in the type of its weights by design: that is no note.
    assert not any("precision" in note for record in halves.records for note in record["notes"])
    moved = [
        abs(halves.value(name) - value)  # type: ignore[operator]
        for name, value in numbers_of(whole).items()
        if value is not None
    ]
    # Measured up to 0.043 on single noise videos; rounding to 8 bits moves something.
    assert 0 < max(moved) < 0.13


def test_halves_do_not_depend_on_what_is_beside_them(
    models: dict[str, Path], videos: Path, tmp_path: Path
) -> None:
    """In bfloat16 a batch moves third digits: large models see one video at a time, always."""
    alone = run(videos, models, tmp_path / "alone", precision="bf16")
    beside = run(videos, models, tmp_path / "beside", precision="bf16", batch_size=3)
    assert numbers_of(alone) == numbers_of(beside)


@pytest.mark.parametrize(
    ("precision", "said"), [("auto", "fp32"), ("fp32", "fp32"), ("tf32", "tf32"), ("bf16", "bf16")]
)
def test_what_a_record_says_of_its_precision(
    models: dict[str, Path], videos: Path, tmp_path: Path, precision: Any, said: str
) -> None:
    only = {PHYSICS: models[PHYSICS]}
    results = run(videos, only, tmp_path, precision=precision)
    assert {record["precision"] for record in results.records} == {said}
    # Only of other networks it is said that their numbers are not those of fp32.
    assert not results.document["warnings"]


# --- a GPU that is too small ------------------------------------------------------------------


def test_a_gpu_that_is_too_small_holds_a_part(
    models: dict[str, Path], videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decided without a GPU, up to what the loader is told."""
    told: dict[str, Place] = {}

    def stop(card: Any, _here: Any, *, place: Place, device: str, **_more: Any) -> Any:
        told[card.name] = place
        assert device == "cuda"
        raise SetupError("seen")

    monkeypatch.setattr(memory, "resolve_device", lambda _wanted: "cuda")
    monkeypatch.setattr("aigve_cli.api.resolve_device", lambda _wanted: "cuda")
    monkeypatch.setattr(passes, "load_network", stop)
    monkeypatch.setattr(passes, "set_arithmetic", lambda _precision: None)
    half = sizes(models, "bfloat16")[PHYSICS]

    def ask() -> None:
        evaluate(
            videos,
            prompt="a red ball",
            metrics=PHYSICS,
            options={PHYSICS: {"model": str(models[PHYSICS])}},
            output_dir=tmp_path,
        )

    free(monkeypatch, PLENTY, gpu=WORKING_BYTES + half // 2)
    with pytest.raises(SetupError, match=r"of the GPU.s memory and .* of main memory") as caught:
        ask()  # not a layer of a real one would fit
    assert "--use-cpu" in str(caught.value.hint)
    monkeypatch.setattr(memory, "SMALLEST_PART", half // 2)
    with pytest.raises(SetupError, match="seen"):
        ask()
    rest = PLENTY - WORKING_BYTES
    assert told == {PHYSICS: Place("bfloat16", half, gpu_bytes=half // 2, main_bytes=rest)}


def test_what_the_model_is_told_of_its_place(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    card = network_card(PHYSICS)

    class Module:
        @staticmethod
        def load(folder: Path, processor: Path, variant: str, placement: Any) -> Any:
            seen.append(placement)
            return torch.nn.Identity()

    monkeypatch.setattr(networks.importlib, "import_module", lambda _name: Module)
    here = Located(models[PHYSICS], "0" * 64, "custom", verified=False, tag="", licence="")
    place = Place("bfloat16", 100, gpu_bytes=50, main_bytes=70)
    networks.load_network(card, here, device="cuda", place=place)
    networks.load_network(card, here, device="cpu", place=Place("float32", 100))
    assert [tuple(placement) for placement in seen] == [
        ("cuda", torch.bfloat16, 50, 70),
        ("cpu", torch.float32, None, 0),
    ]


# --- words ------------------------------------------------------------------------------------


def test_a_dry_run_tells_the_passes_and_loads_nothing(
    models: dict[str, Path],
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    free(monkeypatch, WORKING + max(sizes(models).values()))
    monkeypatch.setattr(passes, "load_network", lambda *_a, **_k: pytest.fail("it loaded"))
    settings = [f"--set={name}.model={path}" for name, path in models.items()]
    code = main(
        [
            "compute",
            f"--input-dir={videos}",
            "--prompt=a ball",
            f"--metrics={','.join(models)}",
            "--use-cpu",
            "--dry-run",
            f"--output-dir={tmp_path}",
            *settings,
        ]
    )
    said = " ".join(capsys.readouterr().err.split())
    assert code == 0
    assert "2 passes; at most scores only" in said
    assert "2 passes over the videos, each decodes them: videoscore; videophy." in said
    assert f"{SCORES}:{models[SCORES]}: {models[SCORES]} (custom), 0.0 GB in float32" in said
