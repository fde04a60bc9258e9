"""Every registered metric keeps the contract: a new file is tested the moment it is there."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest

from aigve_cli.contract import (
    CATEGORIES,
    Extent,
    Sample,
    SampleFeatures,
    Score,
    VideoFacts,
    VideoFeatures,
)
from aigve_cli.engine.plan import (
    read_options,
    reads_prompts,
    request_frames,
    request_key,
    request_producers,
)
from aigve_cli.errors import UsageError
from aigve_cli.registry import registry
from aigve_cli.weights import network_card
from tests.conftest import process_environment

NAMES = list(registry().metrics)


@pytest.fixture(params=NAMES)
def metric(request):
    return registry().metrics[request.param]()


def defaults(metric):
    return read_options(metric.card.name, metric.card.options, {})


def test_card(metric):
    card = metric.card
    assert card.category in CATEGORIES
    assert card.name == card.name.lower()
    assert set(card.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert card.values
    assert all(text for text in (card.title, card.cite, card.source, card.licence))
    assert card.version >= 1
    for option in card.options:
        assert option.help
        assert not option.choices or option.default in option.choices
    assert metric.scores_videos() or metric.compares_sets()


def test_requests_are_pure_and_name_producers_that_exist(metric):
    options = defaults(metric)
    first, second = (metric.requests(options, Extent()) for _ in range(2))
    assert first == second
    for request in first.values():
        assert request.output_name in network_card(request.producer).all_outputs
        for producer in request_producers(request):
            card = network_card(producer.name)
            assert not producer.weights or producer.weights in card.weights
        assert request_key(request, {}) == request_key(request, {})
        assert request_frames(request) or reads_prompts(request)
        assert all(str(frames.sampling) for frames in request_frames(request))


LENGTHS = (0, 1, 7, 29, 100, 700)


@pytest.mark.parametrize(
    ("extent", "asked"),
    [
        (Extent(), 700),
        (Extent(max_frames=32), 32),
        (Extent(max_frames=1), 1),
        (Extent(max_seconds=4, fps=8), 32),
        # By the video's own 25 frames a second.
        (Extent(max_seconds=1.28, fps=None), 32),
    ],
)
def test_no_metric_looks_behind_the_frames_that_were_asked_for(metric, extent, asked):
    for request in set().union(*(requests.values() for requests in every_choice(metric, extent))):
        for frames in request_frames(request):
            limit = frames.sampling.limit
            assert limit is None or limit <= asked
            for length in LENGTHS:
                units = frames.sampling.units(VideoFacts(64, 64, 25.0, length))
                assert units.ndim == 2
                if units.size:
                    assert units.min() >= 0
                    assert units.max() < min(length, asked)


def every_choice(metric, extent):
    """Requests of each combination of choices that is not refused."""
    options = metric.card.options
    allowed = [option.choices or (option.default,) for option in options]
    for values in itertools.product(*allowed):
        chosen = {option.name: value for option, value in zip(options, values, strict=True)}
        requests, _ = requests_or_refusal(metric, chosen, extent)
        yield requests


class Set(list):
    """Videos in memory."""


def shape_of(request, rows):
    """Of frames or clips so many rows, of a prompt one; beside texts as wide as the card says."""
    card = network_card(request.producer)
    stated = {**card.outputs, **card.text} if card.text else {}
    width = {**stated, **card.with_text}.get(request.output_name) or 40
    return (rows if request_frames(request) else 1), width


def made_up(metric, seed, videos, rows=6):
    random = np.random.default_rng(seed)
    return Set(
        VideoFeatures(
            f"{seed}-{index}",
            {
                name: random.normal(size=shape_of(request, rows)).astype(np.float32)
                for name, request in metric.requests(defaults(metric), Extent()).items()
            },
        )
        for index in range(videos)
    )


@pytest.mark.parametrize("name", [n for n in NAMES if registry().metrics[n].compares_sets()])
def test_sets_give_finite_numbers_or_a_reason(name):
    metric = registry().metrics[name]()
    for generated, reference in ((5, 4), (1, 1), (1, 0), (5, 0)):
        score = metric.compare(
            made_up(metric, 1, generated), made_up(metric, 2, reference) or None, defaults(metric)
        )
        assert isinstance(score, Score)
        assert bool(score.reason) != bool(score.values)
        assert set(score.values) <= {value.name for value in metric.card.values}
        for value in metric.card.values:
            if value.name in score.values:
                low, high = value.range
                assert low is None or score.values[value.name] >= low
                assert high is None or score.values[value.name] <= high


@pytest.mark.parametrize("name", [n for n in NAMES if registry().metrics[n].scores_videos()])
def test_single_videos_give_finite_numbers_or_a_reason(name):
    metric = registry().metrics[name]()
    for rows in (6, 1):
        generated, reference = (made_up(metric, seed, 1, rows)[0].features for seed in (1, 2))
        facts = VideoFacts(160, 128, 8.0, rows)
        for theirs in (reference, None):
            units = {name: np.arange(rows)[:, None] for name in generated}
            features = SampleFeatures(generated, theirs, facts, units)
            score = metric.score(features, Sample("a", None), defaults(metric))
            assert bool(score.reason) != bool(score.values)


@pytest.mark.parametrize("name", [n for n in NAMES if registry().metrics[n].saves_statistics()])
def test_saved_statistics_stand_for_the_reference_set(name):
    metric = registry().metrics[name]()
    generated, reference = made_up(metric, 1, 5), made_up(metric, 2, 4)
    options = defaults(metric)
    statistics = metric.reference_statistics(reference, options)
    assert all(isinstance(array, np.ndarray) for array in statistics.values())
    assert not metric.reads_moments or {"mu", "sigma"} <= statistics.keys()
    found = metric.compare_with_statistics(generated, statistics, options)
    expected = metric.compare(generated, reference, options)
    assert found.values.keys() == expected.values.keys()
    for name, value in expected.values.items():
        # The root of a covariance of fewer rows than dimensions, instead of its factor: 1e-16 of a
        # matrix is 1e-8 of its root.
        assert found.values[name] == pytest.approx(value, rel=1e-8)
    for name in ("noise_floor", "videos", metric.unit, "dimensions"):
        assert found.details.get(name) == expected.details.get(name)
    with pytest.raises(ValueError, match="at least 2 reference videos"):
        metric.reference_statistics(made_up(metric, 2, 1), options)
    assert metric.compare_with_statistics(made_up(metric, 1, 1), statistics, options).reason


@pytest.mark.parametrize("name", [n for n in NAMES if registry().metrics[n].compares_sets()])
def test_the_order_of_what_is_looked_at_does_not_change_a_set(name):
    """The engine sorts a set by content; what is read of it twice must be the same twice."""
    metric = registry().metrics[name]()
    sides = made_up(metric, 1, 5), made_up(metric, 2, 4)
    first, second = (metric.compare(*sides, defaults(metric)) for _ in range(2))
    assert first == second


def test_a_sibling_stands_in_for_a_metric_of_the_same_kind():
    for standard, sibling in registry().substitutes.items():
        ours, theirs = (registry().metrics[name].card for name in (standard, sibling))
        assert ours.category == theirs.category
        assert ours.needs == theirs.needs
        assert [value.better for value in ours.values] == [value.better for value in theirs.values]
        for producer in networks_of(sibling):
            assert network_card(producer).entry().embedded


def networks_of(name):
    metric = registry().metrics[name]()
    requests = metric.requests(defaults(metric), Extent()).values()
    producers = set().union(*map(request_producers, requests))
    return [producer.name for producer in producers if network_card(producer.name).weights]


def requests_or_refusal(metric, options, extent=Extent()):  # noqa: B008 - it is frozen
    try:
        return metric.requests(options, extent), ""
    except UsageError as error:
        return {}, error.message


def test_every_choice_of_every_option_is_planned_or_refused_by_name(metric):
    for option in metric.card.options:
        for choice in option.choices:
            options = {**defaults(metric), option.name: choice}
            requests, refusal = requests_or_refusal(metric, options)
            assert requests or f"{metric.card.name}.{option.name}={choice}" in refusal
            for request in requests.values():
                assert request_key(request, {})


def test_metrics_load_without_numpy_or_torch():
    code = (
        "import sys; from aigve_cli.registry import registry; registry();"
        "print([m for m in ('numpy', 'scipy', 'torch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=process_environment(),
        check=True,
    )
    assert done.stdout.strip() == "[]"
