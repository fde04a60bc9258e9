"""What the metrics of videos and prompts make of rows: arithmetic alone, without a network."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from aigve_cli.contract import Extent, Prompt, Sample, SampleFeatures, Score
from aigve_cli.engine.plan import read_options
from aigve_cli.metrics.blipsim import BlipSim
from aigve_cli.metrics.clipsim import ClipSim
from aigve_cli.metrics.cliptemp import ClipTemp
from aigve_cli.metrics.pickscore import PickScore
from aigve_cli.metrics.pickscore_win import PickScoreWin
from aigve_cli.registry import registry
from tests.networks.vision_goldens import goldens

GOLDENS = goldens()
CLIP, PICK = GOLDENS["tiny-clip"], GOLDENS["tiny-pickscore"]
PROMPTS = range(len(GOLDENS["prompts"]))
SAMPLE = Sample("a.mkv", Path("a.mkv"), prompt="a red ball")
PROMPTED = (ClipSim, BlipSim, PickScore, PickScoreWin)
EVERY = (*PROMPTED, ClipTemp)
# Goldens are float32 means of float32 cosines.
FLOAT32 = 2e-7


def options_of(metric, **given):
    return read_options(metric.card.name, metric.card.options, given)


def at_cosines(cosines, *, width=6, seed=0):
    """float32 [U, D] and [1, D] at given cosines, of lengths that are not 1."""
    random = np.random.default_rng(seed)
    text, other = np.linalg.qr(random.normal(size=(width, 2)))[0].T
    cosines = np.asarray(cosines, np.float64)[:, None]
    images = cosines * text + np.sqrt(1 - cosines**2) * other
    lengths = random.uniform(0.1, 50, (len(images), 1))
    return (lengths * images).astype(np.float32), (7 * text[None]).astype(np.float32)


def text_rows(text, *, factor=1.0, bias=0.0, tokens=(5, 77)):
    return {
        "text": text,
        "tokens": np.array([tokens], np.float32),
        "logit": np.array([[factor, bias]], np.float32),
    }


def rows_at(cosines, **logit):
    images, text = at_cosines(cosines)
    return {"image": images, **text_rows(text, **logit)}


def score(metric, rows, reference=None, **options):
    features = SampleFeatures(rows, reference)
    return metric().score(features, SAMPLE, options_of(metric, **options))


def value(metric, rows, **options):
    """The one number of a score, and its curve."""
    given = score(metric, rows, **options)
    (number,) = given.values.values()
    (curve,) = given.curve.values()
    return number, curve


# --- clipsim ----------------------------------------------------------------------------------


@pytest.mark.parametrize("index", PROMPTS)
@pytest.mark.parametrize("network", ["tiny-clip", "tiny-pickscore"])
def test_every_scale_of_the_goldens_cosines(network, index):
    """PickScore's too: its cosines lie on both sides of 0, where the scales part."""
    theirs = GOLDENS[network]["prompts"][index]
    factor = GOLDENS[network]["logit_scale_exp"]
    rows = rows_at(theirs["cos_per_frame"], factor=factor)
    for scale, key, by_frame, size in (
        ("raw", "cos_mean", "cos_per_frame", 1),
        ("x100", "cos_mean_x100", None, 100),
        ("clamp100", "clipscore_clamped_x100", None, 100),
        ("2.5", "hessel_2.5_clamped", None, 2.5),
        ("logit", "logit_scaled_mean", "logit_scaled_per_frame", factor),
    ):
        mean, curve = value(ClipSim, rows, scale=scale)
        assert mean == pytest.approx(theirs[key], abs=4 * FLOAT32 * size), scale
        assert mean == pytest.approx(np.mean(curve), abs=1e-12)
        if by_frame:
            np.testing.assert_allclose(curve, theirs[by_frame], atol=4 * FLOAT32 * size)
        elif scale != "x100":
            clamped = size * np.maximum(theirs["cos_per_frame"], 0)
            np.testing.assert_allclose(curve, clamped, atol=4 * FLOAT32 * size)


def test_what_is_below_0_counts_as_0_before_the_mean():
    rows = rows_at([-0.5, 0.3])
    assert value(ClipSim, rows, scale="clamp100")[0] == pytest.approx(15, abs=1e-4)
    assert value(ClipSim, rows, scale="2.5")[0] == pytest.approx(0.375, abs=1e-6)
    assert value(ClipSim, rows, scale="x100")[0] == pytest.approx(-10, abs=1e-4)


def test_a_bias_is_part_of_the_logit_and_of_nothing_else():
    """SigLIP has one; CLIP's is 0."""
    rows = rows_at([0.25, 0.75], factor=10, bias=-12)
    assert value(ClipSim, rows, scale="logit")[0] == pytest.approx(10 * 0.5 - 12, abs=1e-5)
    assert value(ClipSim, rows, scale="raw")[0] == pytest.approx(0.5, abs=1e-6)


def test_the_frames_order_does_not_matter():
    rows = rows_at([0.1, 0.9, -0.4, 0.2])
    other = rows | {"image": rows["image"][[2, 0, 3, 1]]}
    for metric in (ClipSim, PickScore, BlipSim):
        first, second = score(metric, rows), score(metric, other)
        assert first.values == pytest.approx(dict(second.values), abs=1e-15)
        assert sorted(first.curve["frame"]) == sorted(second.curve["frame"])


# --- cliptemp ---------------------------------------------------------------------------------


def test_cliptemp_is_the_mean_of_neighbours():
    angles = np.cumsum([0, 0.1, 0.7, 0.2, 3.0])
    rows = {"image": (9 * np.stack([np.cos(angles), np.sin(angles)], 1)).astype(np.float32)}
    mean, curve = value(ClipTemp, rows)
    np.testing.assert_allclose(curve, np.cos(np.diff(angles)), atol=1e-6)
    assert mean == pytest.approx(np.cos(np.diff(angles)).mean(), abs=1e-6)
    backwards, _ = value(ClipTemp, {"image": rows["image"][::-1]})
    assert backwards == pytest.approx(mean, abs=1e-12)
    jumbled, _ = value(ClipTemp, {"image": rows["image"][[0, 4, 1, 3, 2]]})
    assert abs(jumbled - mean) > 0.1


def test_one_frame_has_no_neighbours():
    given = score(ClipTemp, {"image": np.ones((1, 4), np.float32)})
    assert not given.values
    assert "one frame" in given.reason
    assert score(ClipTemp, {"image": np.ones((2, 4), np.float32)}).reason is None


def test_a_frozen_video_is_named():
    still = {"image": np.tile(np.float32([[0.3, -2, 5]]), (6, 1))}
    given = score(ClipTemp, still)
    assert given.values["cliptemp"] == pytest.approx(1, abs=1e-12)
    assert any("frozen" in note for note in given.notes)
    moving = score(ClipTemp, {"image": np.float32([[1, 0, 0], [0.99, 0.1, 0], [1, 0, 0]])})
    assert moving.values["cliptemp"] > 0.99
    assert moving.notes == ()


# --- blipsim ----------------------------------------------------------------------------------


@pytest.mark.parametrize("index", PROMPTS)
def test_both_heads_of_the_goldens(index):
    theirs = GOLDENS["tiny-blip-itm"]["prompts"][index]
    mean, curve = value(BlipSim, rows_at(theirs["itc_cos_per_frame"]), head="itc")
    assert mean == pytest.approx(theirs["itc_cos_mean"], abs=4 * FLOAT32)
    np.testing.assert_allclose(curve, theirs["itc_cos_per_frame"], atol=4 * FLOAT32)
    matches = np.float32(theirs["itm_prob_per_frame"])[:, None]
    rows = {"itm": matches, "tokens": np.float32([[5, 35]])}
    mean, curve = value(BlipSim, rows, head="itm")
    assert mean == pytest.approx(theirs["itm_prob_mean"], abs=FLOAT32)
    assert curve == matches[:, 0].tolist()


# --- pickscore --------------------------------------------------------------------------------


@pytest.mark.parametrize("index", PROMPTS)
def test_pickscore_is_scaled_and_has_its_cosine_beside_it(index):
    theirs = PICK["prompts"][index]
    rows = rows_at(theirs["cos_per_frame"], factor=PICK["logit_scale_exp"])
    given = score(PickScore, rows)
    assert given.values["pickscore"] == pytest.approx(theirs["logit_scaled_mean"], abs=5e-5)
    assert given.values["pickscore-cosine"] == pytest.approx(theirs["cos_mean"], abs=5e-7)
    np.testing.assert_allclose(given.curve["frame"], theirs["logit_scaled_per_frame"], atol=1e-4)


def win(ours, theirs, factor=1.0):
    """The score of two videos of which every frame has a given cosine."""
    rows = rows_at(ours, factor=factor)
    return score(PickScoreWin, rows, {"image": at_cosines(theirs)[0]})


def test_the_probability_is_the_softmax_of_two_means():
    ours, theirs = [0.31, 0.22, 0.4], [0.3, 0.27]
    means = 97 * np.mean(ours), 97 * np.mean(theirs)
    expected = math.exp(means[0]) / (math.exp(means[0]) + math.exp(means[1]))
    given = win(ours, theirs, factor=97)
    assert given.values["pickscore-win"] == pytest.approx(expected, abs=1e-5)
    assert given.details["pickscore"] == pytest.approx(means[0], abs=1e-4)
    assert given.details["reference"] == pytest.approx(means[1], abs=1e-4)
    back = win(theirs, ours, factor=97)
    assert back.values["pickscore-win"] == pytest.approx(1 - expected, abs=1e-5)
    assert win(ours, ours, factor=97).values["pickscore-win"] == 0.5


@pytest.mark.parametrize(("side", "expected"), [(1, 1.0), (-1, 0.0)])
def test_large_differences_do_not_overflow(side, expected):
    with np.errstate(over="raise", invalid="raise"):
        given = win([side * 1.0], [-side * 1.0], factor=500)
    assert given.details["pickscore"] - given.details["reference"] == pytest.approx(side * 1000)
    assert given.values["pickscore-win"] == expected


def test_the_goldens_softmax_of_two_frames():
    """Of two candidates, their shares of the softmax over all are in the same proportion."""
    frames, shares = PICK["prompts"][0]["cos_per_frame"], PICK["softmax_over_frames_prompt0"]
    for a, b in ((5, 2), (1, 0), (6, 0)):
        given = win([frames[a]], [frames[b]], factor=PICK["logit_scale_exp"])
        expected = shares[a] / (shares[a] + shares[b])
        assert given.values["pickscore-win"] == pytest.approx(expected, abs=1e-5)


def test_without_another_video_there_is_no_probability():
    given = score(PickScoreWin, rows_at([0.1]))
    assert not given.values
    assert given.reason == "no other video of this prompt"


# --- cut prompts ------------------------------------------------------------------------------


def scores_of(metric, tokens):
    """A score with a prompt of so many tokens, of which 77 are read."""
    rows = rows_at([0.2, 0.4], tokens=(tokens, 77))
    return score(metric, rows, {"image": rows["image"]})


@pytest.mark.parametrize("metric", PROMPTED)
def test_a_cut_prompt_is_noted_and_counted(metric):
    whole, full, cut, longer = (scores_of(metric, tokens) for tokens in (5, 77, 78, 1204))
    for uncut in (whole, full):
        assert uncut.notes == ()
    assert any("cut" in note and "78" in note and "77" in note for note in cut.notes)
    assert any("1204" in note for note in longer.notes)

    given = metric().summarise([whole, cut, full, longer])
    (note,) = (note for note in given.notes if "cut" in note)
    assert "2 of 4" in note
    assert metric().summarise([whole, full]).notes == ()
    # Where all of them are cut in the same way, the note of a video is not that of all.
    (note,) = (n for n in metric().summarise([cut, cut]).notes if "cut" in n)
    assert "2 of 2" in note
    assert "78" not in note


@pytest.mark.parametrize("metric", PROMPTED)
def test_a_summary_is_the_mean_with_an_interval(metric):
    scores = [score(metric, rows_at([c]), {"image": at_cosines([0.1])[0]}) for c in (0.2, 0.5, 0.8)]
    given = metric().summarise(scores)
    for name, number in given.values.items():
        assert number == pytest.approx(np.mean([s.values[name] for s in scores]), abs=1e-12)
        low, high = given.details["interval95"][name]
        assert low <= number <= high
        assert low < high


# --- rows without a direction -----------------------------------------------------------------


@pytest.mark.parametrize("metric", [ClipSim, BlipSim, PickScore])
def test_zeros_have_the_cosine_0(metric):
    rows = rows_at([0.5, 0.5])
    rows["image"][1] = 0
    given = score(metric, rows)
    assert given.curve["frame"][1] == 0
    assert given.curve["frame"][0] == pytest.approx(0.5, abs=1e-6)
    nothing = score(metric, rows | {"text": np.zeros_like(rows["text"])})
    assert set(nothing.curve["frame"]) == {0}


def test_zeros_between_frames_are_no_neighbours_in_meaning():
    frames = np.float32([[1, 2], [0, 0], [1, 2]])
    mean, curve = value(ClipTemp, {"image": frames})
    assert (mean, curve) == (0, [0, 0])


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1e18])
def test_the_length_of_rows_does_not_matter(size):
    images, text = at_cosines([0.3, -0.7])
    rows = {"image": (images * size).astype(np.float32), **text_rows(text)}
    assert value(ClipSim, rows)[1] == pytest.approx([0.3, -0.7], abs=1e-6)


# --- what is asked for, and what the numbers are ----------------------------------------------

CHOICES = [
    (ClipSim, {"scale": "raw"}, (-1, 1), "cosine"),
    (ClipSim, {"scale": "x100"}, (-100, 100), "100 x cosine"),
    (ClipSim, {"scale": "clamp100"}, (0, 100), "100 x cosine, below 0 as 0"),
    (ClipSim, {"scale": "2.5"}, (0, 2.5), "2.5 x cosine, below 0 as 0"),
    (ClipSim, {"scale": "logit"}, (None, None), "the model's logit"),
    (BlipSim, {"head": "itc"}, (-1, 1), "cosine"),
    (BlipSim, {"head": "itm"}, (0, 1), "probability of a match"),
]


@pytest.mark.parametrize(("metric", "given", "bounds", "unit"), CHOICES)
def test_range_and_unit_are_those_of_the_option(metric, given, bounds, unit):
    (stated,) = metric().values(options_of(metric, **given))
    assert (stated.name, stated.better) == (metric.card.name, "higher")
    assert (stated.range, stated.unit) == (bounds, unit)


@pytest.mark.parametrize("metric", EVERY)
def test_defaults_are_what_the_card_says(metric):
    assert metric().values(options_of(metric)) == metric.card.values


@pytest.mark.parametrize("metric", [ClipSim, BlipSim])
def test_every_choice_is_proven_here(metric):
    options = {o.name: o.choices for o in metric.card.options if o.name in ("scale", "head")}
    ((name, choices),) = options.items()
    assert {given[name] for m, given, _, _ in CHOICES if m is metric} == set(choices)


@pytest.mark.parametrize("metric", EVERY)
def test_the_model_and_the_preprocessing_are_part_of_what_is_asked(metric):
    heads = ("itc", "itm") if metric is BlipSim else (None,)
    for head in heads:
        chosen = {"head": head} if head else {}
        options = options_of(metric, model="owner/name", preprocess="aigve", **chosen)
        requests = metric().requests(options, Extent()).values()
        assert {request.weights for request in requests} == {"owner/name"}
        views = {str(f.view) for r in requests for f in r.sources if not isinstance(f, Prompt)}
        standard = metric().requests(options_of(metric, **chosen), Extent()).values()
        usual = {str(f.view) for r in standard for f in r.sources if not isinstance(f, Prompt)}
        assert views
        assert views.isdisjoint(usual)
        with_prompt = any(Prompt() in request.sources for request in requests)
        assert with_prompt == ("prompt" in metric.card.needs)


def test_the_category_and_who_is_asked_for_by_name():
    found = registry()
    assert set(found.in_category("vision_language_similarity")) == {
        "clipsim",
        "cliptemp",
        "blipsim",
        "pickscore",
    }
    assert found.metrics["pickscore-win"] is PickScoreWin


def test_scores_are_plain_numbers():
    """As results are written: numpy's own numbers are no JSON."""
    rows = rows_at([0.2, 0.4], factor=97)
    for metric in EVERY:
        given: Score = score(metric, rows, {"image": rows["image"]})
        assert all(type(number) is float for number in given.values.values())
        assert all(type(v) in (int, float) for v in given.details.values())
