"""From names on a command line to what is computed: pure functions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aigve_cli.contract import (
    Card,
    Extent,
    Frames,
    Metric,
    Option,
    Prompt,
    Request,
    Text,
    Value,
)
from aigve_cli.engine.plan import (
    plan_metric,
    plan_metrics,
    read_options,
    request_key,
    request_looks,
    wanted_names,
)
from aigve_cli.errors import UsageError
from aigve_cli.registry import registry
from aigve_cli.video.sampling import Clips, FirstFrames, FirstSeconds, Spread


def planned(*names, extent=None, settings=None):
    found = registry()
    return plan_metrics(
        found, wanted_names(found, names, ()), settings=settings or {}, extent=extent or Extent()
    )


@pytest.mark.parametrize(
    ("metrics", "categories", "expected"),
    [
        ([], [], ["fid", "is", "fvd"]),
        (["all"], [], ["fid", "is", "fvd"]),
        ([], ["distribution_based"], ["fid", "fvd", "is", "kid", "kvd"]),
        (["all"], ["distribution_based"], ["fid", "fvd", "is", "kid", "kvd"]),
        (["FID", " is ", "fid"], [], ["fid", "is"]),
        (["kid-lite0", "all"], [], ["kid-lite0", "fid", "is", "fvd"]),
    ],
)
def test_names(metrics, categories, expected):
    assert wanted_names(registry(), metrics, categories) == expected


def test_settings_of_a_standard_metric_hold_for_its_sibling_as_far_as_it_has_them():
    def sibling(settings):
        return plan_metric(
            registry(), "is", "is-lite0", settings=settings, extent=Extent(), why="…"
        )

    assert sibling({"is": {"splits": "3", "convention": "clean-fid"}}).options == {"splits": 3}
    assert sibling({"is-lite0": {"splits": 4}}).options == {"splits": 4}
    # What was said of the sibling itself is nearer to it.
    assert sibling({"is-lite0": {"splits": 10}, "is": {"splits": "3"}}).options == {"splits": 10}
    (metric,) = planned("is", settings={"is-lite0": {"splits": 10}, "is": {"splits": "3"}})
    assert metric.options["splits"] == 3


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
    (short,), (long,) = planned("fvd-lite0"), planned("fvd-lite0")
    frames = long.requests["clips"].sources[0].sources[0]
    inner = replace(
        long.requests["clips"].sources[0], sources=(replace(frames, sampling=Clips(32, 64)),)
    )
    other = replace(long.requests["clips"], sources=(inner,))
    assert request_key(short.requests["clips"], {}) != request_key(other, {})
    assert request_key(short.requests["clips"].sources[0], {}) == request_key(inner, {})


@pytest.mark.parametrize(
    "names",
    [
        ("fid-lite0", "is-lite0", "kid-lite0", "fvd-lite0"),
        ("fid", "is", "kid", "fid-infinity", "mind", "prdc"),
        ("fvd", "kvd", "fvd-infinity"),
    ],
)
def test_metrics_share_one_network_over_one_view(names):
    leaves = set()
    for metric in planned(*names):
        for request in metric.requests.values():
            leaves |= {look.leaf for look in request_looks(request)}
    assert len(leaves) == 1


def test_rows_of_clips_depend_on_length_and_on_the_network_s_variant():
    keys = {
        request_key(metric.requests["clips"], {})
        for settings in (
            {},
            {"fvd": {"length": 32}},
            {"fvd": {"convention": "tensorflow"}},
            {"fvd": {"convention": "videogpt"}},
        )
        for metric in planned("fvd", settings=settings)
    }
    assert len(keys) == 4
    # Where the clips lie is no part of it.
    (later,) = planned("fvd", settings={"fvd": {"offset": 5, "stride": 2}})
    assert request_key(later.requests["clips"], {}) in keys


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"fvd": {"protocol": "fvd2048-128f", "length": 32}}, "fvd2048-128f has length=128"),
        ({"fvd": {"protocol": "fvd2048-16f", "stride": 2}}, "has stride=1; 2 was given"),
        ({"fvd": {"protocol": "fvd2048-16f", "short": "loop"}}, "has short=drop; loop was given"),
        ({"fvd": {"length": 8}}, "at least 9"),
        ({"fvd": {"convention": "pytorch-fid"}}, "Allowed: stylegan-v"),
        ({"mind": {"features": "i3d", "convention": "clean-fid"}}, "not one of mind.features=i3d"),
    ],
)
def test_settings_of_clips_that_are_refused(settings, words):
    with pytest.raises(UsageError) as caught:
        planned(*settings, settings=settings)
    assert words in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("protocol", "frames"),
    [("fvd2048-16f", 16), ("fvd2048-128f", 128), ("fvd2048-128f-subsample8f", 128)],
)
def test_protocols_have_the_frames_that_they_need(protocol, frames):
    (metric,) = planned("fvd", settings={"fvd": {"protocol": protocol}})
    sampling = metric.requests["clips"].sources[0].sampling
    assert sampling.limit == frames
    with pytest.raises(UsageError, match=f"need {frames} frames"):
        planned(
            "fvd",
            settings={"fvd": {"protocol": protocol}},
            extent=Extent(max_frames=frames - 1),
        )


@pytest.mark.parametrize(
    ("extent", "frames", "clips"),
    [
        (Extent(), FirstFrames(64), Clips(16, 64)),
        (Extent(max_frames=20), FirstFrames(20), Clips(16, 20)),
        (Extent(max_frames=20, max_seconds=2), FirstFrames(50), Clips(16, 50)),
        (Extent(max_seconds=2, fps=8), FirstFrames(16), Clips(16, 16)),
        (Extent(max_seconds=2, fps=None), FirstSeconds(2), FirstSeconds(2, Clips(16))),
        (Extent(pad=True), FirstFrames(64, pad=True), Clips(16, 64, pad=True)),
    ],
)
def test_how_much_of_a_video(extent, frames, clips):
    fid, fvd = planned("fid-lite0", "fvd-lite0", extent=extent)
    assert fid.requests["frames"].sources[0].sampling == frames
    assert fvd.requests["clips"].sources[0].sources[0].sampling == clips


# --- requests that no producer could be given -------------------------------------------------

LOOK = Frames((), FirstFrames(None))
TAPS, MOTION = Request("vgg16:taps", (LOOK,)), Request("slowfast-r50:features", (LOOK,))
SPATIAL = Request("simplevqa:spatial", (LOOK,))
TEXT = Text(("a photo",))

PROMPTS = "it reads prompts, which the metric's card does not say that it needs"
ONE_LOOK = "it takes one look at frames"
ONE_TEXT = "it takes a prompt, or constant texts"
FRAMES_THEN_TEXT = "it takes frames and then a prompt or a text"
ROWS = "a head reads the rows of other requests"
ROLES = "the generated and the reference video cannot be looked at in one request"
NOT_STORED = "rows without a frame or clip of their own are not stored"


def plan_made_up(request, *, compares=False):
    """A metric ``made-up`` that asks for ``request``; of sets, or else of videos."""

    class MadeUp(Metric):
        card = Card("made-up", "…", "multi_faceted", (Value("made-up", "higher"),), 1)

        def requests(self, options, extent):
            return {"fine": TAPS, "asked": request} if not compares else {"asked": request}

    setattr(MadeUp, "compare" if compares else "score", lambda *_: None)
    found = registry()
    found = replace(found, metrics={**found.metrics, "made-up": MadeUp})
    return plan_metric(found, "made-up", "made-up", settings={}, extent=Extent())


def seen_as(request, role):
    frames = [replace(source, role=role) for source in request.sources]
    return replace(request, sources=tuple(frames))


@pytest.mark.parametrize(
    ("asked", "output", "words"),
    [
        (Request("clip-vit-b-32:text", (Prompt(),)), "clip-vit-b-32:text", PROMPTS),
        (Request("blip-itm:itm", (LOOK, Prompt())), "blip-itm:itm", PROMPTS),
        (Request("blip-itm:itm", (LOOK,)), "blip-itm:itm", FRAMES_THEN_TEXT),
        (Request("blip-itm:itm", (TEXT, LOOK)), "blip-itm:itm", FRAMES_THEN_TEXT),
        (Request("gstvqa:score", (TAPS, TEXT)), "gstvqa:score", ROWS),
        (Request("vgg16:taps", (LOOK, TEXT)), "vgg16:taps", ONE_LOOK),
        (Request("vgg16:taps", (LOOK, LOOK)), "vgg16:taps", ONE_LOOK),
        (
            Request("vgg16:taps", (LOOK, replace(LOOK, sampling=Spread(8)))),
            "vgg16:taps",
            ONE_LOOK,
        ),
        (Request("vgg16:taps", (LOOK, TAPS)), "vgg16:taps", ONE_LOOK),
        (Request("clip-vit-b-32:text", (TEXT, TEXT)), "clip-vit-b-32:text", ONE_TEXT),
        (Request("clip-vit-b-32:text", (LOOK, TEXT)), "clip-vit-b-32:text", ONE_TEXT),
        (Request("gstvqa:score", (TAPS, LOOK)), "gstvqa:score", ROWS),
        (Request("gstvqa:score", (LOOK,)), "gstvqa:score", ROWS),
        (Request("gstvqa:score", (TEXT,)), "gstvqa:score", ROWS),
        # Deep inside, it is the inner request that is named.
        (
            Request("simplevqa:frame_scores", (SPATIAL, Request("gstvqa:score", (LOOK,)))),
            "gstvqa:score",
            ROWS,
        ),
        (
            Request("simplevqa:frame_scores", (SPATIAL, seen_as(MOTION, "reference"))),
            "simplevqa:frame_scores",
            ROLES,
        ),
        (
            Request("simplevqa:frame_scores", (seen_as(SPATIAL, "each"), MOTION)),
            "simplevqa:frame_scores",
            ROLES,
        ),
    ],
)
def test_requests_that_are_refused(asked, output, words):
    with pytest.raises(UsageError) as caught:
        plan_made_up(asked)
    assert caught.value.message.startswith(f"The metric 'made-up' asks for {output}: {words}")


@pytest.mark.parametrize(
    ("asked", "compares"),
    [
        (Request("gstvqa:score", (TAPS,)), True),
        (Request("gstvqa:score", (seen_as(TAPS, "each"),)), False),
        (Request("gstvqa:score", (seen_as(TAPS, "reference"),)), False),
    ],
)
def test_sets_and_pairs_cannot_ask_for_rows_that_are_not_stored(asked, compares):
    with pytest.raises(UsageError) as caught:
        plan_made_up(asked, compares=compares)
    message = f"The metric 'made-up' asks for {asked.output}: {NOT_STORED}"
    assert caught.value.message.startswith(message)


def test_sets_cannot_ask_for_texts():
    with pytest.raises(UsageError, match="sets have rows of frames and clips, not of texts"):
        plan_made_up(Request("clip-vit-b-32:text", (TEXT,)), compares=True)


@pytest.mark.parametrize(
    ("asked", "compares"),
    [
        (Request("gstvqa:score", (TAPS,)), False),
        (Request("blip-itm:itm", (LOOK, TEXT)), False),
        (Request("simplevqa:frame_scores", (SPATIAL, MOTION)), False),
        (Request("clip-vit-b-32:text", (TEXT,)), False),
        (Request("light-brightness:tiles", (LOOK,)), True),
        (seen_as(TAPS, "each"), False),
        (TAPS, True),
    ],
)
def test_requests_that_are_planned(asked, compares):
    assert asked in plan_made_up(asked, compares=compares).requests.values()


def test_a_category_without_a_metric_names_those_that_have_some():
    mine = {name: m for name, m in registry().metrics.items() if m.card.category != "multi_faceted"}
    with pytest.raises(UsageError, match="No metric of the category 'multi_faceted'") as caught:
        replace(registry(), metrics=mine).in_category("multi_faceted")
    assert "distribution_based" in str(caught.value.hint)
