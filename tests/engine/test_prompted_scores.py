"""Each sample with its own prompt: read once, seen once, kept, and never made up."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from aigve_models import blip_itm, clip, pickscore

from aigve_cli import evaluate
from aigve_cli.contract import Extent, Sample
from aigve_cli.engine import passes
from aigve_cli.engine.plan import plan_metric, why_unscored
from aigve_cli.errors import UsageError
from aigve_cli.metrics.blipsim import BlipSim
from aigve_cli.metrics.clipsim import ClipSim
from aigve_cli.metrics.cliptemp import ClipTemp
from aigve_cli.registry import registry
from aigve_cli.weights import network_card
from tests.conftest import moving_pattern, read_results, write_clip
from tests.engine.watched import TINY, Watching, listed, models, scores, values
from tests.networks.vision_goldens import cosines, seen_by

FRAMES = {"a.mkv": 5, "b.mkv": 3, "c.mkv": 4}
PROMPTS = {"a.mkv": "a red ball", "b.mkv": "the dog runs on grass in a city", "c.mkv": "a cat"}
# Another batch is another order of sums in float32.
SAME = 1e-6
CLIP = f"clip:{TINY['clipsim']}"
BLIP = f"blip-itm:{TINY['blipsim']}"
PICK = f"pickscore:{TINY['pickscore']}"


def frames_of(name: str) -> list[np.ndarray]:
    return moving_pattern(sum(name.encode()), FRAMES[name], height=40, width=56)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name in FRAMES:
        write_clip(folder / name, frames_of(name))
    return folder


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> Watching:
    loader = Watching(passes.load_network)
    monkeypatch.setattr(passes, "load_network", loader)
    return loader


@pytest.fixture
def run(videos, tmp_path, watching):
    """The prompted metrics over videos with prompts; the document as it was written."""

    def run(entries, metrics="clipsim", *, out=tmp_path / "out", folder=videos, **given):
        names = metrics.split(",")
        choices = given.pop("choices", {})
        entries = entries.items() if isinstance(entries, dict) else entries
        evaluate(
            annotations=listed(tmp_path / "listed.json", entries),
            video_dir=folder,
            metrics=names,
            options=models(*names, **choices),
            device="cpu",
            output_dir=out,
            **given,
        )
        return read_results(out)

    return run


@cache
def network_of(metric: str):
    module = {"blipsim": blip_itm, "pickscore": pickscore}.get(metric, clip)
    return module.load(TINY[metric], TINY[metric]).eval()


@cache
def by_hand(metric: str, name: str, prompt: str, *, head: str = "itc") -> np.ndarray:
    """A number a frame from the networks alone, frame by frame."""
    folder, network = TINY[metric], network_of(metric)
    with torch.inference_mode():
        pictures = seen_by(folder, frames=frames_of(name))
        if head == "itm":
            rows = [network.with_text(picture[None], (prompt,))["itm"] for picture in pictures]
            return torch.cat(rows)[:, 0].numpy()
        images = torch.cat([network(picture[None])["image"] for picture in pictures])
        found = network.text((prompt,))
        factor = float(found["logit"][0, 0]) if metric == "pickscore" else 1
        return factor * cosines(images, found["text"])[:, 0].numpy()


# --- own prompts ------------------------------------------------------------------------------


def test_each_video_is_compared_with_its_own_prompt(run):
    document = run(PROMPTS, "clipsim,blipsim,pickscore")
    assert document["counts"]["decodes"] == 3
    for metric, tolerance in (("clipsim", SAME), ("blipsim", SAME), ("pickscore", 100 * SAME)):
        found = values(document, metric)
        for name, prompt in PROMPTS.items():
            expected = by_hand(metric, name, prompt)
            assert found[name] == pytest.approx(expected.mean(), abs=tolerance)
            (curve,) = scores(document, metric)[name]["curve"].values()
            np.testing.assert_allclose(curve, expected, atol=tolerance)
        # Another video's prompt would be seen.
        other = by_hand(metric, "a.mkv", PROMPTS["b.mkv"]).mean()
        assert abs(found["a.mkv"] - other) > 1000 * tolerance
    assert {v["sample"]: v["prompt"] for v in document["videos"]} == PROMPTS


def test_a_video_with_two_prompts_is_seen_once_and_scored_twice(run, watching):
    entries = [("a.mkv", "a red ball"), ("b.mkv", "a cat"), ("a.mkv", "the night")]
    document = run(entries, "clipsim,cliptemp")
    assert document["counts"]["decodes"] == 2
    assert document["counts"]["looked"] == {CLIP: 5 + 3}
    assert sum(watching["clip"].batches) == 5 + 3
    found = values(document, "clipsim")
    expected = [by_hand("clipsim", name, prompt).mean() for name, prompt in entries]
    ours = [found["a.mkv"], found["b.mkv"], found["a.mkv#2"]]
    assert ours == pytest.approx(expected, abs=SAME)
    temp = values(document, "cliptemp")
    assert temp["a.mkv"] == temp["a.mkv#2"]


def test_a_video_with_two_prompts_that_are_seen_with_it(run, watching):
    entries = [("a.mkv", "a red ball"), ("a.mkv", "the night")]
    document = run(entries, "blipsim", choices={"head": "itm"})
    assert document["counts"]["decodes"] == 1
    # Pictures and prompts in one: there is no pass that both could share.
    assert document["counts"]["looked"] == {BLIP: 2 * 5}
    found = values(document, "blipsim")
    expected = [by_hand("blipsim", name, prompt, head="itm").mean() for name, prompt in entries]
    assert [found["a.mkv"], found["a.mkv#2"]] == pytest.approx(expected, abs=SAME)
    assert abs(expected[0] - expected[1]) > 100 * SAME


# --- once -------------------------------------------------------------------------------------


def test_each_prompt_is_read_once_and_each_frame_seen_once(run, watching):
    shared = {"a.mkv": "a red ball", "b.mkv": "a cat", "c.mkv": "a red ball"}
    document = run(shared, "clipsim,cliptemp,blipsim,pickscore")
    every = sum(FRAMES.values())
    assert document["counts"]["looked"] == {CLIP: every, BLIP: every, PICK: every}
    assert document["counts"]["read"] == {CLIP: 2, BLIP: 2, PICK: 2}
    assert [name for name, _ in watching.loaded].count("clip") == 1
    for name in ("clip", "blip-itm", "pickscore"):
        assert sorted(watching[name].texts) == ["a cat", "a red ball"]
        assert sum(watching[name].batches) == every
        assert watching[name].together == []


def test_another_preprocessing_is_another_pass(run, watching):
    document = run(PROMPTS, "clipsim,cliptemp", choices={"preprocess": "aigve"})
    assert document["counts"]["looked"] == {CLIP: 2 * sum(FRAMES.values())}
    assert document["counts"]["decodes"] == 3


def test_the_same_content_under_two_names_is_seen_once_for_one_prompt(
    run, videos, tmp_path, watching
):
    folder = tmp_path / "copies"
    folder.mkdir()
    for name in ("one.mkv", "two.mkv", "other.mkv"):
        shutil.copy(videos / "a.mkv", folder / name)
    entries = {"one.mkv": "a cat", "two.mkv": "a cat", "other.mkv": "a red ball"}
    document = run(entries, "clipsim", folder=folder)
    found = values(document, "clipsim")
    assert found["one.mkv"] == found["two.mkv"]
    assert found["other.mkv"] == pytest.approx(by_hand("clipsim", "a.mkv", "a red ball").mean())
    assert abs(found["one.mkv"] - found["other.mkv"]) > 1000 * SAME


# --- without a prompt -------------------------------------------------------------------------


@pytest.mark.parametrize("nothing", [None, "", "   ", "\n\t"])
def test_a_video_without_a_prompt_has_a_reason_and_is_not_seen(run, watching, nothing):
    document = run({**PROMPTS, "b.mkv": nothing}, "clipsim,blipsim,pickscore")
    for metric in ("clipsim", "blipsim", "pickscore"):
        score = scores(document, metric)["b.mkv"]
        assert (score["reason"], score["values"]) == ("no prompt", {})
        others = values(document, metric)
        assert others["a.mkv"] is not None
        assert others["c.mkv"] is not None
    (entry,) = (v for v in document["videos"] if v["sample"] == "b.mkv")
    assert set(entry["excluded"]) == {"clipsim", "blipsim", "pickscore"}
    assert entry["prompt"] is None
    assert document["counts"]["looked"] == {CLIP: 9, BLIP: 9, PICK: 9}
    assert sorted(watching["clip"].texts) == ["a cat", "a red ball"]
    (record,) = (r for r in document["results"] if r["value_name"] == "clipsim")
    assert record["videos"]["videos"] == 2
    assert record["value"] == pytest.approx((others_of(document)).mean())


def others_of(document) -> np.ndarray:
    return np.array([v for v in values(document, "clipsim").values() if v is not None])


def test_a_video_without_a_prompt_is_steady_or_not_all_the_same(run):
    document = run({**PROMPTS, "b.mkv": None}, "cliptemp,clipsim")
    assert scores(document, "clipsim")["b.mkv"]["reason"] == "no prompt"
    assert values(document, "cliptemp")["b.mkv"] is not None
    assert document["counts"]["looked"] == {CLIP: sum(FRAMES.values())}
    both = run(PROMPTS, "cliptemp")
    assert values(both, "cliptemp") == values(document, "cliptemp")


@pytest.mark.parametrize("prompt", [None, "", " \n"])
def test_a_blank_is_no_prompt_wherever_it_comes_from(prompt):
    """Readers of files leave blanks out; a sample may come from elsewhere."""
    sample = Sample("a.mkv", Path("a.mkv"), prompt=prompt)
    for name, lacks in (("clipsim", True), ("cliptemp", False)):
        planned = plan_metric(registry(), name, name, settings={}, extent=Extent())
        assert bool(why_unscored(planned, sample)) == lacks
        assert not why_unscored(planned, replace(sample, prompt="a cat"))


def test_without_any_prompt_it_is_said_before_anything_is_decoded(run, tmp_path):
    with pytest.raises(UsageError, match="no prompts for clipsim, blipsim") as caught:
        run(dict.fromkeys(PROMPTS), "clipsim,blipsim")
    assert "--prompts FILE" in caught.value.hint
    assert "--prompt-from-name" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_one_frame_has_a_score_of_its_prompt_and_none_of_its_neighbours(run, videos):
    document = run(PROMPTS, "clipsim,cliptemp", max_len=1)
    assert None not in values(document, "clipsim").values()
    reasons = {score["reason"] for score in scores(document, "cliptemp").values()}
    assert reasons == {"one frame: there are no neighbours to compare"}
    (record,) = (r for r in document["results"] if r["value_name"] == "cliptemp")
    assert record["value"] is None
    assert "one frame" in record["reason"]


# --- a run that goes on -----------------------------------------------------------------------


@pytest.fixture
def scored(monkeypatch):
    """The metrics and prompts of every score that is made."""
    made = []
    for metric in (ClipSim, ClipTemp, BlipSim):

        def score(self, features, sample, options, *, original=metric.score):
            made.append((self.card.name, sample.prompt))
            return original(self, features, sample, options)

        monkeypatch.setattr(metric, "score", score)
    return made


def cut_behind(out: Path, kind: str) -> None:
    """The journal as a kill left it, behind the first line of a kind."""
    lines = (out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    kinds = [json.loads(line)["kind"] for line in lines]
    (out / "journal.jsonl").write_bytes(b"".join(lines[: kinds.index(kind) + 1]))


def cut_the_end(out: Path) -> None:
    """The journal of a run that was killed when all was scored, before its results."""
    lines = (out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    assert json.loads(lines[-1])["kind"] == "finished"
    (out / "journal.jsonl").write_bytes(b"".join(lines[:-1]))


def test_what_was_scored_before_a_kill_is_kept(run, tmp_path, watching, scored):
    whole = run(PROMPTS, "clipsim,cliptemp")
    cut_behind(tmp_path / "out", "sample")
    scored.clear()
    again = run(PROMPTS, "clipsim,cliptemp")
    assert again["counts"]["reused"] == 1
    assert again["counts"]["looked"] == {CLIP: 3 + 4}
    assert watching["clip"].texts == [PROMPTS["b.mkv"], PROMPTS["c.mkv"]]
    assert {prompt for _, prompt in scored if prompt} == {PROMPTS["b.mkv"], PROMPTS["c.mkv"]}
    assert [v["scores"] for v in again["videos"]] == [v["scores"] for v in whole["videos"]]


def test_a_changed_prompt_costs_one_video_and_the_metrics_that_read_it(run, tmp_path, scored):
    first = run(PROMPTS, "clipsim,cliptemp,blipsim")
    cut_the_end(tmp_path / "out")
    scored.clear()
    changed = run({**PROMPTS, "b.mkv": "a white tree"}, "clipsim,cliptemp,blipsim")
    assert sorted(scored) == [("blipsim", "a white tree"), ("clipsim", "a white tree")]
    assert changed["counts"]["decodes"] == 1
    assert changed["counts"]["looked"] == {CLIP: 3, BLIP: 3}
    assert changed["counts"]["read"] == {CLIP: 1, BLIP: 1}
    assert values(changed, "cliptemp") == values(first, "cliptemp")
    before, after = (values(document, "clipsim") for document in (first, changed))
    assert (before["a.mkv"], before["c.mkv"]) == (after["a.mkv"], after["c.mkv"])
    assert after["b.mkv"] == pytest.approx(by_hand("clipsim", "b.mkv", "a white tree").mean())
    # And back: what was scored with the second prompt is not held to be the first's.
    cut_the_end(tmp_path / "out")
    back = run(PROMPTS, "clipsim,cliptemp,blipsim")
    assert values(back, "clipsim") == pytest.approx(before, abs=SAME)


def test_a_prompt_that_is_taken_away_leaves_a_reason(run, tmp_path):
    run(PROMPTS, "clipsim,cliptemp")
    cut_the_end(tmp_path / "out")
    document = run({**PROMPTS, "b.mkv": None}, "clipsim,cliptemp")
    assert scores(document, "clipsim")["b.mkv"]["reason"] == "no prompt"
    assert document["counts"]["looked"] == {}


def test_another_model_or_option_is_another_score(run, tmp_path):
    raw = run(PROMPTS, "clipsim")
    cut_the_end(tmp_path / "out")
    scaled = run(PROMPTS, "clipsim", choices={"scale": "x100"})
    expected = {name: 100 * value for name, value in values(raw, "clipsim").items()}
    assert values(scaled, "clipsim") == pytest.approx(expected, abs=1e-4)
    cut_the_end(tmp_path / "out")
    other = run(PROMPTS, "clipsim", choices={"model": str(TINY["pickscore"])})
    expected = {name: by_hand("pickscore", name, p).mean() / 97 for name, p in PROMPTS.items()}
    assert values(other, "clipsim") == pytest.approx(expected, abs=SAME)


# --- what is kept -----------------------------------------------------------------------------


def test_rows_of_pictures_are_kept_and_none_that_a_prompt_has_a_part_in(run, tmp_path):
    metrics = "blipsim,clipsim,cliptemp,pickscore"
    kept = run(PROMPTS, metrics, choices={"head": "itm"}, keep_features=True)
    files = sorted((tmp_path / "out" / "features").iterdir())
    every = sum(FRAMES.values())
    assert [(path.name.rpartition("-")[0], path.stat().st_size) for path in files] == [
        ("clip-image", every * 16 * 4),
        ("pickscore-image", every * 24 * 4),
    ]
    plain = run(PROMPTS, metrics, choices={"head": "itm"}, out=tmp_path / "plain")
    assert not (tmp_path / "plain" / "features").exists()
    assert [v["scores"] for v in kept["videos"]] == [v["scores"] for v in plain["videos"]]


# --- pairs ------------------------------------------------------------------------------------


@pytest.fixture
def sets(videos, tmp_path) -> dict[str, Path]:
    """Two generators' videos of the same two prompts."""
    for folder, names in (("ours", ("a.mkv", "b.mkv")), ("theirs", ("b.mkv", "c.mkv"))):
        (tmp_path / folder).mkdir()
        for place, name in zip(("x.mkv", "y.mkv"), names, strict=True):
            shutil.copy(videos / name, tmp_path / folder / place)
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps({"x.mkv": "a red ball", "y.mkv": "the night"}))
    return {"ours": tmp_path / "ours", "theirs": tmp_path / "theirs", "prompts": prompts}


def win(sets, out: Path, ours="ours", theirs="theirs", **options):
    evaluate(
        sets[ours],
        sets[theirs],
        prompts=sets["prompts"],
        metrics="pickscore-win",
        options=models("pickscore-win"),
        device="cpu",
        output_dir=out,
        **options,
    )
    return read_results(out)


def test_both_videos_of_a_pair_are_read(sets, tmp_path, watching):
    document = win(sets, tmp_path / "out")
    assert document["counts"]["decodes"] == 3
    # The content that both sets have is seen once.
    assert document["counts"]["looked"] == {PICK: 5 + 3 + 4}
    assert document["counts"]["read"] == {PICK: 2}
    found = scores(document, "pickscore-win")
    for name, prompt, sides in (
        ("x.mkv", "a red ball", ("a.mkv", "b.mkv")),
        ("y.mkv", "the night", ("b.mkv", "c.mkv")),
    ):
        ours, theirs = (by_hand("pickscore", side, prompt).mean() for side in sides)
        details = found[name]["details"]
        assert details["pickscore"] == pytest.approx(ours, abs=1e-4)
        assert details["reference"] == pytest.approx(theirs, abs=1e-4)
        expected = 1 / (1 + np.exp(theirs - ours))
        assert found[name]["values"]["pickscore-win"] == pytest.approx(expected, abs=1e-4)
    (record,) = document["results"]
    assert (record["unit"], record["range"]) == ("probability", [0, 1])
    assert {entry["videos"] for entry in record["inputs"]} == {"each"}

    back = win(sets, tmp_path / "back", "theirs", "ours")
    for name, score in scores(back, "pickscore-win").items():
        given = found[name]["values"]["pickscore-win"]
        assert score["values"]["pickscore-win"] == pytest.approx(1 - given, abs=1e-4)


def test_a_pair_with_a_changed_prompt_is_scored_again(sets, tmp_path):
    first = win(sets, tmp_path / "out", keep_features=True)
    sets["prompts"].write_text(json.dumps({"x.mkv": "a red ball", "y.mkv": "a white tree"}))
    second = win(sets, tmp_path / "out", keep_features=True)
    # The rows of both videos are on disk, and a prompt has no part in them.
    assert second["counts"]["decodes"] == 0
    assert second["counts"]["read"] == {PICK: 1}
    before, after = (values(document, "pickscore-win") for document in (first, second))
    assert before["x.mkv"] == after["x.mkv"]
    details = scores(second, "pickscore-win")["y.mkv"]["details"]
    expected = by_hand("pickscore", "b.mkv", "a white tree").mean()
    assert details["pickscore"] == pytest.approx(expected, abs=1e-4)


def test_a_pair_without_a_prompt_or_with_a_broken_other_video_has_a_reason(sets, tmp_path):
    (sets["theirs"] / "x.mkv").write_bytes(b"no video")
    sets["prompts"].write_text(json.dumps({"x.mkv": "a red ball"}))
    write_clip(sets["ours"] / "z.mkv", moving_pattern(9, 2, height=40, width=56))
    write_clip(sets["theirs"] / "z.mkv", moving_pattern(8, 2, height=40, width=56))
    sets["prompts"].write_text(json.dumps({"x.mkv": "a red ball", "z.mkv": "a cat"}))
    found = scores(win(sets, tmp_path / "out"), "pickscore-win")
    assert found["x.mkv"]["reason"].startswith("its reference: ")
    assert found["y.mkv"]["reason"] == "no prompt"
    assert found["z.mkv"]["values"]


# --- pictures together with prompts -----------------------------------------------------------


def test_two_prompts_in_one_batch_are_those_of_their_own_pictures(run, tmp_path, watching):
    document = run(PROMPTS, "blipsim", choices={"head": "itm"}, batch_size=64)
    (texts,) = watching["blip-itm"].together
    assert texts == tuple(p for name, p in PROMPTS.items() for _ in range(FRAMES[name]))
    found = scores(document, "blipsim")
    for name, prompt in PROMPTS.items():
        expected = by_hand("blipsim", name, prompt, head="itm")
        np.testing.assert_allclose(found[name]["curve"]["frame"], expected, atol=SAME)
    alone = run(
        PROMPTS, "blipsim", choices={"head": "itm"}, batch_size=1, out=tmp_path / "one by one"
    )
    assert {len(texts) for texts in watching["blip-itm"].together} == {1}
    assert values(alone, "blipsim") == pytest.approx(values(document, "blipsim"), abs=SAME)


def test_both_heads_of_one_model_are_told_apart(run, tmp_path):
    """A score of one head is not taken for the other's in the same folder."""
    itc = run(PROMPTS, "blipsim")
    cut_the_end(tmp_path / "out")
    itm = run(PROMPTS, "blipsim", choices={"head": "itm"})
    for name, prompt in PROMPTS.items():
        expected = by_hand("blipsim", name, prompt, head="itm").mean()
        assert values(itm, "blipsim")[name] == pytest.approx(expected, abs=SAME)
        assert abs(values(itc, "blipsim")[name] - expected) > 0.01
    assert [d["results"][0]["unit"] for d in (itc, itm)] == ["cosine", "probability of a match"]


# --- a prompt that a model cannot read --------------------------------------------------------


@pytest.fixture
def foreign_tokenizer(tmp_path) -> dict[str, Path]:
    """Models whose tokenizers have one token more than they know: the word ``zebra``."""
    copies = {}
    for metric in ("clipsim", "blipsim"):
        folder = copies[metric] = tmp_path / "foreign" / metric
        shutil.copytree(TINY[metric], folder)
        path = folder / "tokenizer.json"
        tokenizer = json.loads(path.read_text(encoding="utf-8"))
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        new = {key: False for key in ("single_word", "lstrip", "rstrip", "normalized", "special")}
        new |= {"id": config["text_config"]["vocab_size"], "content": "zebra"}
        tokenizer["added_tokens"].append(new)
        path.write_text(json.dumps(tokenizer), encoding="utf-8")
    return copies


@pytest.mark.parametrize("batch_size", [None, 64])
@pytest.mark.parametrize(
    ("metric", "choices"), [("clipsim", {}), ("blipsim", {}), ("blipsim", {"head": "itm"})]
)
def test_a_prompt_that_a_model_cannot_read_costs_its_own_score_only(
    run, foreign_tokenizer, metric, choices, batch_size
):
    entries = {**PROMPTS, "b.mkv": "a zebra runs"}
    folder = str(foreign_tokenizer[metric])
    document = run(entries, metric, choices={**choices, "model": folder}, batch_size=batch_size)
    found = scores(document, metric)
    assert "another model's" in found["b.mkv"]["reason"]
    for name in ("a.mkv", "c.mkv"):
        expected = by_hand(metric, name, PROMPTS[name], head=choices.get("head", "itc")).mean()
        assert found[name]["values"].get(metric) == pytest.approx(expected, abs=SAME)


def test_the_key_of_counts_is_the_checkpoint(run):
    """Of the card's own checkpoint the network's name alone; else the folder behind it."""
    document = run(PROMPTS, "clipsim")
    assert set(document["counts"]["looked"]) == {CLIP}
    (record,) = document["results"]
    (network,) = record["networks"]
    assert network["name"] == network_card("clip").name
    assert network["tag"] == str(TINY["clipsim"])
