"""Models of billions of weights: together and one by one, in passes, and at their real size.

Folders are written here, in the layout that is published and with random weights: nothing is
downloaded, and what is scored means nothing. The tokenizers know some hundred tokens, so texts
have more of them than with those that are published.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import measure
from measure import ROOT, Rows, cpu, interleaved, mb, script, table, wall

METRICS = ("videophy", "videophy2", "videoscore", "videoscore2")
MOST_TOKENS = 16
"""Of an answer: models that were not taught to answer never come to an end."""
PROMPT = "a red ball rolls down a hill and splashes into the water"
SHARD_BYTES = 2 << 30
THREADS = {"OMP_NUM_THREADS": "2"}
"""With real sizes, where nearly all is matrix products."""
UNREAD = (0, 1, 3)
"""Exit codes: answers that were not taught cannot be read."""
IDEFICS2 = {
    "vision_config": {
        "hidden_size": 1152,
        "image_size": 980,
        "intermediate_size": 4304,
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "patch_size": 14,
    },
    "perceiver_config": {
        "num_key_value_heads": 4,
        "resampler_depth": 3,
        "resampler_head_dim": 96,
        "resampler_n_heads": 16,
        "resampler_n_latents": 64,
    },
    "text_config": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "max_position_embeddings": 32768,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5,
        "vocab_size": 32003,
    },
}
"""Sizes of HuggingFaceM4/idefics2-8b, of which VideoScore was made."""


# --- one run and four, one pass and two -------------------------------------------------------


def tiny_models(folder: Path, *, videos: int, rounds: int) -> str:
    """Four metrics of tiny models in one run, against a run each, and in two passes.

    Args:
        folder: For clips, models and results.
        videos: How many, of 1360 x 768 and 81 frames.
        rounds: Of interleaved runs.
    """
    models = write_tiny(folder / "tiny-models")
    clips, tiny = folder / f"rated{videos}", folder / "rated-tiny"
    for seed in range(videos):
        size = {"width": 1360, "height": 768, "frames": 81}
        measure.make_clip(clips / f"clip{seed}.mp4", seed=seed, **size)
    measure.make_clip(tiny / "clip0.mp4", width=64, height=48, frames=4, seed=1)
    # All but the last fit together; in float32 twice as much is kept to compute with.
    free = 2 * _working_bytes() + sum(_bytes_of(path, "float32") for path in models.values()) - 1

    def run(name: str, metrics: tuple[str, ...], where: Path = clips, *more: str) -> list[str]:
        options = [f"--set={metric}.model={models[metric]}" for metric in metrics]
        compute = _compute(where, _output(folder, name), metrics, "--use-cpu")
        limits = (f"--most-tokens={MOST_TOKENS}", *more)
        return script("large_models_program.py", *limits, _report(folder, name), *compute, *options)

    asked = {"one run": METRICS} | {metric: (metric,) for metric in METRICS}
    commands = {name: run(name, metrics) for name, metrics in asked.items()}
    commands["two passes"] = run("two passes", METRICS, clips, f"--free={free}")
    starts = {f"start-up of {name}": metrics for name, metrics in asked.items()}
    commands |= {name: run(name, metrics, tiny) for name, metrics in starts.items()}
    costs = interleaved(commands, rounds=rounds, ok=UNREAD)
    took = {
        name: (_counts(_output(folder, name))["decodes"], cpu(of), wall(of))
        for name, of in costs.items()
    }

    def total(names: Iterable[str]) -> list[float]:
        return [sum(column) for column in zip(*(took[name] for name in names), strict=True)]

    one, four, two = total(["one run"]), total(METRICS), total(["two passes"])
    rows: Rows = []
    for name in (*asked, "two passes", "start-up of one run"):
        peak = max(cost.own_peak + cost.child_peak for cost in costs[name])
        rows.append([name, *_words(took[name]), mb(peak)])
    rows.append(["four runs", *_words(four), ""])
    for what, of in {"four runs": four, "two passes": two}.items():
        ratios = [f"{value / by:.2f} ×" for value, by in zip(of, one, strict=True)]
        rows.append([f"{what} / one run", *ratios, ""])
    start = took["start-up of one run"][1]
    started = total(f"start-up of {metric}" for metric in METRICS)[1]
    less = (four[1] - started) / (one[1] - start)
    first, second = (_values(_output(folder, name)) for name in ("one run", "two passes"))
    return (
        f"{videos} videos of 81 frames, 1360 x 768; tiny models, at most {MOST_TOKENS} tokens an "
        f"answer. Start-up of the four runs takes {started:.1f} CPU s, of the one {start:.1f}; "
        f"less these, four runs / one run is {less:.2f} × of CPU s. Values in one pass and in two "
        f"are {'equal' if first == second else 'not equal'}.\n\n"
        f"{table(['', 'videos decoded', 'CPU s', 'wall s', 'peak MB'], rows)}"
    )


def _words(total: Sequence[float]) -> list[str]:
    decodes, *seconds = total
    return [str(int(decodes)), *(f"{value:.1f}" for value in seconds)]


def write_tiny(folder: Path) -> dict[str, Path]:
    """A tiny model by metric."""
    owl, score = _writers()
    write = (owl.write_owl, owl.write_owl, score.write_videoscore, score.write_videoscore2)
    folders = {metric: folder / metric for metric in METRICS}
    for path, writer in zip(folders.values(), write, strict=True):
        if not path.exists():
            writer(path)
    return folders


# --- real sizes -------------------------------------------------------------------------------


class Real(NamedTuple):
    """A model of real size that is measured."""

    metric: str
    videos: int
    """Of 512 x 512 and 16 frames."""


REAL = (Real("videophy", 2), Real("videoscore", 1))


def real_models(folder: Path) -> str:
    """Models of real size, one after another: each is written, run in bfloat16, and deleted."""
    header = ["", "GB of weights", "to find and hash s", "to load s", "first look s", "later s"]
    header += ["CPU s", "wall s", "estimate GB", "peak GB", "own GB", "of files GB", "GPU GB"]
    rows: Rows = []
    counts = []
    for model, size in ((model, about_bytes(model.metric)) for model in REAL):
        if problem := _no_room(folder, size):
            counts.append(f"{model.metric} is not measured: {problem}.")
            continue
        where = folder / f"real-{model.metric}"
        try:
            write_real(where, model.metric)
            cost = measure.run(_real_run(folder, where, model), more=THREADS)
            estimate = _bytes_of(where, "bfloat16") + _working_bytes()
        finally:
            shutil.rmtree(where, ignore_errors=True)
        counts.append(_said(folder, model))
        rows.append(_real_row(folder, model, cost, estimate))
    said = "\n".join(f"* {text}" for text in counts)
    return f"Videos of 16 frames, 512 x 512.\n\n{said}\n\n{table(header, rows)}"


def _real_run(folder: Path, where: Path, model: Real) -> list[str]:
    clips = folder / f"real{model.videos}"
    for seed in range(model.videos):
        measure.make_clip(clips / f"clip{seed}.mp4", width=512, height=512, frames=16, seed=seed)
    device = "cuda" if has_gpu() else "cpu"
    more = (f"--device={device}", "--precision=bf16", f"--set={model.metric}.model={where}")
    compute = _compute(clips, _output(folder, f"real {model.metric}"), (model.metric,), *more)
    return script("large_models_program.py", _report(folder, f"real {model.metric}"), *compute)


def _said(folder: Path, model: Real) -> str:
    output = _output(folder, f"real {model.metric}")
    counts = _counts(output)
    values = ", ".join(f"{value:.4f}" for value in _values(output))
    looks = sum(counts["looked"].values())
    return f"{model.metric}: videos decoded {counts['decodes']}, looks {looks}; values {values}."


def _real_row(folder: Path, model: Real, cost: measure.Cost, estimate: int) -> list[str]:
    report = json.loads(_report(folder, f"real {model.metric}").read_text(encoding="utf-8"))
    seconds, peaks = report["seconds"], report["peaks"]
    first, *later = seconds["look"]
    return [
        model.metric,
        _gb(estimate - _working_bytes()),
        *(f"{sum(seconds[step]):.1f}" for step in ("find", "load")),
        f"{first:.1f}",
        f"{sum(later) / len(later):.1f}" if later else "",
        f"{cost.cpu:.0f}",
        f"{cost.wall:.0f}",
        _gb(estimate),
        *map(_gb, (cost.own_peak, peaks["own"], peaks["files"])),
        _gb(peaks["gpu"]) if peaks["gpu"] else "",
    ]


def write_real(folder: Path, metric: str) -> Path:
    """A folder with published sizes and random weights in bfloat16."""
    import torch

    owl, score = _writers()
    write = owl.write_owl if metric == "videophy" else score.write_videoscore
    write(folder)
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    _change(folder / "config.json", _real_config(metric))
    sides = {"videophy": 224, "videoscore": {"longest_edge": 980, "shortest_edge": 378}}
    size: dict[str, Any] = {"size": sides[metric]}
    if metric == "videophy":
        size["crop_size"] = sides[metric]
    _change(folder / "preprocessor_config.json", size)
    if metric == "videoscore":
        _change(folder / "processor_config.json", {"image_seq_len": 64})
    files: dict[str, str] = {}
    generator = torch.Generator().manual_seed(0)
    shards = list(_shards(empty_model(folder, metric)))
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        _write_shard(folder / name, shard, generator)
        files |= dict.fromkeys(shard, name)
    total = sum(tensor.numel() * 2 for shard in shards for tensor in shard.values())
    index = {"metadata": {"total_size": total}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def empty_model(folder: Path, metric: str) -> Any:
    """The model of a folder, of shapes only."""
    import torch

    _writers()
    if metric == "videophy":
        from aigve_models._mplug_owl_video import MplugOwlVideo, folder_to_owl_config

        with torch.device("meta"):
            return MplugOwlVideo(folder_to_owl_config(folder))
    from aigve_models.videoscore import Idefics2ForRatings
    from transformers import Idefics2Config

    with torch.device("meta"):
        return Idefics2ForRatings(Idefics2Config.from_pretrained(folder))


def about_bytes(metric: str) -> int:
    """Of the published weights, as the network's card says."""
    _writers()
    from aigve_cli.weights import network_card

    return network_card(metric).entry().about_bytes or 0


def _real_config(metric: str) -> dict[str, Any]:
    if metric == "videoscore":
        return {**IDEFICS2, "torch_dtype": "bfloat16"}
    from aigve_models._mplug_owl_video import MplugOwlVideoConfig

    # What is stated is what is published.
    usual = MplugOwlVideoConfig()
    language = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    return {
        "vision_config": usual.vision_config,
        "visual_abstractor_config": usual.visual_abstractor_config,
        "text_config": {
            **{key: getattr(usual.text_config, key) for key in language},
            "max_position_embeddings": 2048,
            "vocab_size": 32000,
        },
    }


def _change(path: Path, changes: Mapping[str, Any]) -> None:
    """Keys of a JSON file; those of a part are put beside its own."""
    stated = json.loads(path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        whole = key != "size" and isinstance(value, Mapping)
        stated[key] = {**stated[key], **value} if whole else value
    path.write_text(json.dumps(stated), encoding="utf-8")


def _shards(model: Any) -> Iterator[dict[str, Any]]:
    shard: dict[str, Any] = {}
    for name, tensor in model.state_dict().items():
        size = sum(held.numel() * 2 for held in shard.values())
        if shard and size + tensor.numel() * 2 > SHARD_BYTES:
            yield shard
            shard = {}
        shard[name] = tensor
    yield shard


def _write_shard(path: Path, shapes: Mapping[str, Any], generator: Any) -> None:
    import torch
    from safetensors.torch import save_file

    state = {}
    for name, shape in shapes.items():
        tensor = torch.empty(shape.shape, dtype=torch.bfloat16)
        # Weights of one dimension are those of norms.
        norm = tensor.ndim == 1 and name.endswith("weight")
        state[name] = tensor.fill_(1) if norm else tensor.normal_(0, 0.02, generator=generator)
    save_file(state, path, metadata={"format": "pt"})


# --- what both need ---------------------------------------------------------------------------


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _writers() -> tuple[Any, Any]:
    # First, as packages that are installed may have tests of this name.
    sys.path[:0] = [str(ROOT), str(ROOT / "models")]
    from tests.networks import owl_folders, score_folders

    return owl_folders, score_folders


def _working_bytes() -> int:
    from aigve_cli.engine.memory import WORKING_BYTES

    return WORKING_BYTES


def _bytes_of(folder: Path, numbers: str) -> int:
    from aigve_cli.engine.memory import model_bytes

    return model_bytes(folder, numbers)


def _no_room(folder: Path, size: int) -> str | None:
    """Why a model cannot be written and run here, or None."""
    from aigve_cli.engine.memory import free_memory

    if shutil.disk_usage(folder).free < size * 1.1:
        return f"{_gb(size)} GB of disk are not free"
    free = free_memory("cuda" if has_gpu() else "cpu")
    there = free.main if free.gpu is None else free.gpu
    if there < size + _working_bytes():
        return f"it needs {_gb(size + _working_bytes())} GB of memory, and {_gb(there)} are free"
    return None


def _compute(videos: Path, output: Path, metrics: tuple[str, ...], *more: str) -> list[str | Path]:
    where = ("--input-dir", videos, "--output-dir", output, "--fresh", "--prompt", PROMPT)
    return ["compute", *where, "--metrics", ",".join(metrics), *more]


def _report(folder: Path, name: str) -> Path:
    return folder / f"report of {name}.json"


def _output(folder: Path, name: str) -> Path:
    return folder / "results" / f"rated, {name}"


def _results(output: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((output / "results.json").read_text(encoding="utf-8"))
    return results


def _counts(output: Path) -> dict[str, Any]:
    counts: dict[str, Any] = _results(output)["counts"]
    return counts


def _values(output: Path) -> list[float]:
    records = _results(output)["results"]
    return [record["value"] for record in records if record["value"] is not None]


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f}"
