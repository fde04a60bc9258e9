"""From names on a command line to what is computed: pure functions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aigve_cli.contract import Extent, Option
from aigve_cli.engine.plan import (
    plan_metrics,
    read_options,
    request_key,
    request_leaves,
    wanted_names,
)
from aigve_cli.errors import UsageError, WeightsError
from aigve_cli.registry import registry
from aigve_cli.video.sampling import Clips, FirstFrames, FirstSeconds


def planned(*names, extent=None, mode="auto", settings=None):
    found = registry()
    return plan_metrics(
        found,
        wanted_names(found, names, ()),
        mode=mode,
        settings=settings or {},
        extent=extent or Extent(),
    )


@pytest.mark.parametrize(
    ("metrics", "categories", "expected"),
    [
        ([], [], ["fid", "is", "fvd"]),
        (["all"], [], ["fid", "is", "fvd"]),
        ([], ["distribution_based"], ["fid", "fvd", "is", "kid"]),
        (["all"], ["distribution_based"], ["fid", "fvd", "is", "kid"]),
        (["FID", " is ", "fid"], [], ["fid", "is"]),
        (["kid-lite0", "all"], [], ["kid-lite0", "fid", "is", "fvd"]),
    ],
)
def test_names(metrics, categories, expected):
    assert wanted_names(registry(), metrics, categories) == expected


def test_a_standard_name_becomes_its_sibling_and_says_so():
    (metric,) = planned("fid")
    assert (metric.requested, metric.name, metric.substituted) == ("fid", "fid-lite0", True)
    (metric,) = planned("fid-lite0")
    assert not metric.substituted


def test_standard_weights_are_never_replaced():
    with pytest.raises(WeightsError, match="fid"):
        planned("fid", mode="standard")


def test_a_name_and_its_sibling_are_both_answered():
    assert [(metric.requested, metric.name) for metric in planned("fid-lite0", "fid")] == [
        ("fid-lite0", "fid-lite0"),
        ("fid", "fid-lite0"),
    ]


def test_settings_reach_a_metric_under_either_name():
    (metric,) = planned("is", settings={"is": {"splits": "3"}})
    assert metric.options == {"splits": 3}
    (metric,) = planned("is-lite0", settings={"is-lite0": {"splits": 4}})
    assert metric.options == {"splits": 4}
    # A file's value comes first, a flag's later one wins, whichever name either uses.
    (metric,) = planned("is", settings={"is-lite0": {"splits": 10}, "is": {"splits": "3"}})
    assert metric.options == {"splits": 3}


OPTIONS = (
    Option("splits", 10, "…", minimum=1),
    Option("flip", False, "…"),
    Option("scale", 1.0, "…"),
    Option("mode", "raw", "…", choices=("raw", "x100")),
)


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"splits": "3"}, "splits", 3),
        ({"flip": "true"}, "flip", True),
        ({"flip": "False"}, "flip", False),
        ({"scale": "2"}, "scale", 2.0),
        ({"mode": "x100"}, "mode", "x100"),
        ({}, "splits", 10),
    ],
)
def test_options(given, name, value):
    read = read_options("metric", OPTIONS, given)[name]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"splits": "2.5"}, "a whole number"),
        ({"splits": 2.5}, "a whole number"),
        ({"splits": "0"}, "at least 1"),
        ({"flip": "yes"}, "true or false"),
        ({"flip": 1}, "true or false"),
        ({"splits": True}, "a whole number"),
        ({"scale": "nan"}, "finite"),
        ({"mode": "x10"}, "raw, x100"),
        ({"split": "2"}, "Did you mean splits"),
    ],
)
def test_options_that_are_refused(given, words):
    with pytest.raises(UsageError) as caught:
        read_options("metric", OPTIONS, given)
    assert words in f"{caught.value.message} {caught.value.hint}"


def test_what_is_kept_depends_on_weights_and_view_but_not_on_sampling():
    (short,), (long,) = planned("fid-lite0", extent=Extent(max_frames=8)), planned("fid-lite0")
    weights = {"efficientnet-lite0": "a"}
    key = request_key(short.requests["frames"], weights)
    assert key == request_key(long.requests["frames"], weights)
    assert key != request_key(long.requests["frames"], {"efficientnet-lite0": "b"})


def test_rows_of_units_depend_on_their_length():
    (short,), (long,) = planned("fvd"), planned("fvd")
    frames = long.requests["clips"].sources[0].sources[0]
    inner = replace(
        long.requests["clips"].sources[0], sources=(replace(frames, sampling=Clips(32, 64)),)
    )
    other = replace(long.requests["clips"], sources=(inner,))
    assert request_key(short.requests["clips"], {}) != request_key(other, {})
    assert request_key(short.requests["clips"].sources[0], {}) == request_key(inner, {})


def test_metrics_share_one_network_over_one_view():
    leaves = set()
    for metric in planned("fid", "is", "kid", "fvd"):
        for request in metric.requests.values():
            leaves |= set(request_leaves(request))
    assert len(leaves) == 1


@pytest.mark.parametrize(
    ("extent", "frames", "clips"),
    [
        (Extent(), FirstFrames(64), Clips(16, 64)),
        (Extent(max_frames=20), FirstFrames(20), Clips(16, 20)),
        (Extent(max_frames=20, max_seconds=2), FirstFrames(50), Clips(16, 50)),
        (Extent(max_seconds=2, fps=8), FirstFrames(16), Clips(16, 16)),
        (Extent(max_seconds=2, fps=None), FirstSeconds(2), FirstSeconds(2, length=16)),
        (Extent(pad=True), FirstFrames(64, pad=True), Clips(16, 64, pad=True)),
    ],
)
def test_how_much_of_a_video(extent, frames, clips):
    fid, fvd = planned("fid", "fvd", extent=extent)
    assert fid.requests["frames"].sources[0].sampling == frames
    assert fvd.requests["clips"].sources[0].sources[0].sampling == clips
