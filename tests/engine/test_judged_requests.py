"""A judge as a producer: what is refused, what is shared, and what a judge's fault costs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from aigve_cli import evaluate, registry as registry_module
from aigve_cli.contract import (
    Card,
    Extent,
    Frames,
    Metric,
    Normalise,
    Prompt,
    Request,
    ResizeWithin,
    Score,
    Text,
    Value,
)
from aigve_cli.engine import look as looking
from aigve_cli.engine.estimate import estimate
from aigve_cli.engine.plan import plan_metric, request_key
from aigve_cli.errors import AigveError, UsageError
from aigve_cli.judges import openai_endpoint, show
from aigve_cli.judges.task import Ask, Expected, JudgeTask, Talk
from aigve_cli.metrics._lite0 import feature_frames
from aigve_cli.video.sampling import Centres
from tests.conftest import moving_pattern, read_results, write_clip
from tests.judges.scripted_endpoint import (
    Endpoint,
    pictures_of,
    question_of,
    scripted_endpoint,
    texts_of,
)

VIDEOS = ("a.mkv", "b.mkv", "c.mkv")


@dataclass(frozen=True)
class CountTask(JudgeTask):
    """Asks how many things there are, after a question about texts."""

    thing: str = "ball"
    prompt_version: ClassVar[str] = "count-1"

    def talk(self, prompt: str | None) -> Talk:
        (plural,) = yield [Ask("plural", f"The plural of {self.thing}?", str.strip, shown=False)]
        (count,) = yield [Ask("count", f"How many {plural.value}?", int)]
        return {"count": count.value, "problem": count.problem, "prompt": prompt}

    def expected(self, prompt: str | None) -> Expected:
        return Expected(text_requests=1, shown_requests=1, text_tokens=5, shown_tokens=7)


def request(*sources: Any, variant: str = "multi") -> Request:
    return Request("judge:answers", sources, variant=variant)


FRAMES = Frames((ResizeWithin(512),), Centres(4))
TASK = CountTask()


class Balls(Metric):
    """As many as the judge counts."""

    card = Card("balls", "balls", "multi_faceted", (Value("balls", "higher"),), 1, needs=("judge",))
    asked = request(FRAMES, TASK)

    def requests(self, options: Any, extent: Extent) -> dict[str, Request]:
        return {"counted": self.asked}

    def score(self, features: Any, sample: Any, options: Any) -> Score:
        assert features.generated == {}
        (record,) = features.records["counted"]
        if record["count"] is None:
            return Score.missing(record["problem"])
        return Score({self.card.name: record["count"]})


class Dogs(Balls):
    card = replace(Balls.card, name="dogs", values=(Value("dogs", "higher"),))
    asked = request(FRAMES, CountTask("dog"))


class Width(Metric):
    """What no judge is asked about."""

    card = Card("width", "width", "multi_faceted", (Value("width", "higher"),), 1)

    def requests(self, options: Any, extent: Extent) -> dict[str, Request]:
        return {"frames": feature_frames(extent)}

    def score(self, features: Any, sample: Any, options: Any) -> Score:
        return Score({"width": features.facts.width})


@pytest.fixture
def with_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    found = registry_module.registry()
    added = {metric.card.name: metric for metric in (Balls, Dogs, Width)}
    changed = replace(found, metrics={**found.metrics, **added})
    monkeypatch.setattr("aigve_cli.engine.setup.registry", lambda: changed)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for seed, name in enumerate(VIDEOS):
        write_clip(folder / name, moving_pattern(seed, 12), fps=4.0)
    return folder


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    def answer(asked: dict[str, Any]) -> str:
        # " balls ": of balls and of dogs, questions are not the same.
        return "3" if pictures_of(asked) else f" {question_of(asked).split()[-1][:-1]}s "

    with scripted_endpoint(answer) as found:
        yield found


@pytest.fixture
def run(videos: Path, tmp_path: Path, with_metrics: None) -> Callable[..., dict[str, Any]]:
    def run(endpoint: Endpoint, *metrics: str, **given: Any) -> dict[str, Any]:
        asked = {"judge": "openai:m", "judge_url": endpoint.url, "judge_cache": tmp_path / "kept"}
        out = tmp_path / "out"
        evaluate(videos, metrics=metrics, device="cpu", output_dir=out, **{**asked, **given})
        return read_results(out)

    return run


def made_up(asked: Request, *, needs: tuple[Any, ...] = ("judge",), compares: bool = False) -> Any:
    class MadeUp(Metric):
        card = replace(Balls.card, name="made-up", needs=needs)

        def requests(self, options: Any, extent: Extent) -> dict[str, Request]:
            return {"asked": asked}

    setattr(MadeUp, "compare" if compares else "score", lambda *_: None)
    found = registry_module.registry()
    found = replace(found, metrics={**found.metrics, "made-up": MadeUp})
    return plan_metric(found, "made-up", "made-up", settings={}, extent=Extent())


@pytest.mark.parametrize(
    ("asked", "needs", "words"),
    [
        (request(FRAMES), ("judge",), "it takes frames, the prompt"),
        (request(FRAMES, TASK, Prompt()), ("judge", "prompt"), "it takes frames, the prompt"),
        (request(FRAMES, Text(("a",)), TASK), ("judge",), "it takes frames, the prompt"),
        (request(TASK), ("judge",), "it takes frames, the prompt"),
        (request(FRAMES, TASK, variant=""), ("judge",), "its variant is how frames are shown"),
        (request(FRAMES, TASK), (), "it asks a judge, which the metric's card does not say"),
        (request(FRAMES, Prompt(), TASK), ("judge",), "it reads prompts, which the metric's card"),
        (
            request(replace(FRAMES, view=(ResizeWithin(64), Normalise((1.0,), (1.0,)))), TASK),
            ("judge",),
            "a judge is shown pictures",
        ),
        (
            Request("gstvqa:score", (request(FRAMES, TASK),)),
            ("judge",),
            "records, such as a judge's, are read by metrics",
        ),
    ],
)
def test_requests_that_are_refused(asked: Request, needs: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        made_up(asked, needs=needs)
    said = f"The metric 'made-up' asks for {asked.output}: {words}"
    assert caught.value.message.startswith(said), caught.value.message


@pytest.mark.parametrize(("role", "compares"), [("each", False), ("generated", True)])
def test_records_are_of_single_videos(role: Any, compares: bool) -> None:
    with pytest.raises(UsageError, match="records are not stored"):
        made_up(request(replace(FRAMES, role=role), TASK), compares=compares)


def test_a_metric_of_another_author_asks_a_judge(run: Any, endpoint: Endpoint) -> None:
    document = run(endpoint, "balls", "width", keep_features=True)
    found = {record["value_name"]: record for record in document["results"]}
    assert found["balls"]["value"] == 3
    assert found["balls"]["judge"]["prompt_versions"] == ["count-1"]
    assert found["width"]["judge"] is None
    assert (found["balls"]["weights"], found["width"]["weights"]) == ("judge", "embedded")
    # The question about a text is the same for all three videos.
    counts = document["counts"]
    assert counts["judge"]["requests"] == endpoint.count == 1 + len(VIDEOS)
    assert counts["judge"]["cached"] == len(VIDEOS) - 1
    assert counts["decodes"] == len(VIDEOS)
    shown = next(asked for asked in endpoint.requests if pictures_of(asked))
    # 12 frames at 4 a second; the middles of four parts.
    assert texts_of(shown)[:-1] == [
        f"Frame {n} of 4, at {time} s:"
        for n, time in enumerate(("0.25", "1.00", "1.75", "2.50"), 1)
    ]
    assert texts_of(shown)[-1] == "How many balls?"


def test_metrics_share_the_pictures_of_a_video(
    run: Any, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: Counter[bytes] = Counter()

    def counting(pixels: np.ndarray) -> bytes:
        encoded[pixels.tobytes()] += 1
        return show.picture_to_jpeg(pixels)

    monkeypatch.setattr(openai_endpoint, "picture_to_jpeg", counting)
    document = run(endpoint, "balls", "dogs")
    assert [record["value"] for record in document["results"]] == [3, 3]
    assert document["counts"]["judge"]["images"] == 2 * 4 * len(VIDEOS)
    assert set(encoded.values()) == {1}
    assert len(encoded) == 4 * len(VIDEOS)


def test_few_pictures_wait_for_a_slow_judge(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is decoded while the pictures that wait fill the room for them."""
    # Room for the pictures of one video, and not of two.
    monkeypatch.setattr(looking, "WAITING_BYTES", 4 * 48 * 64 * 3)
    waited_for = threading.Event()
    rows: list[looking.VideoRows] = []
    waiting: list[int] = []
    ask, keep = looking.VideoRows.ask, looking.Looker._keep

    def asking(own: looking.VideoRows, fps: float) -> None:
        waiting.append(sum(other.waiting_bytes > 0 for other in rows))
        rows.append(own)
        ask(own, fps)

    def keeping(looker: looking.Looker, *given: Any) -> looking.Looked:
        waited_for.set()
        return keep(looker, *given)

    def answer(asked: dict[str, Any]) -> str:
        # Not before the run waits for an answer.
        assert waited_for.wait(60)
        return "3" if pictures_of(asked) else "things"

    monkeypatch.setattr(looking.VideoRows, "ask", asking)
    monkeypatch.setattr(looking.Looker, "_keep", keeping)
    with scripted_endpoint(answer) as endpoint:
        document = run(endpoint, "balls")
    assert document["results"][0]["value"] == 3
    assert waiting[:2] == [0, 1]
    assert waiting[2] <= 1


def test_an_unreadable_answer_costs_one_video(run: Any) -> None:
    bad: dict[bytes, str] = {}

    def answer(asked: dict[str, Any]) -> str:
        shown = pictures_of(asked)
        if not shown:
            return "things"
        key = shown[0].tobytes()
        bad.setdefault(key, "many" if not bad else "4")
        return bad[key]

    with scripted_endpoint(answer) as endpoint:
        document = run(endpoint, "balls", judge_concurrency=1)
    scores = [entry["scores"]["balls"] for entry in document["videos"]]
    assert [score["values"] for score in scores].count({"balls": 4.0}) == 2
    (missing,) = [score for score in scores if not score["values"]]
    assert "asked 3 times" in missing["reason"]
    assert document["counts"]["judge"]["unreadable"] == 1
    assert document["counts"]["judge"]["asked_again"] == 2
    assert document["counts"]["failed"] == 0


def test_no_more_than_max_requests(run: Any, endpoint: Endpoint) -> None:
    document = run(endpoint, "balls", max_requests=2, judge_concurrency=1)
    reasons = [entry["scores"]["balls"]["reason"] for entry in document["videos"]]
    assert reasons.count(None) == 1
    assert [r for r in reasons if r] == ["not asked: --max-requests 2 is reached"] * 2
    assert endpoint.count == 2
    # The next run goes on, and pays for the rest alone.
    again = run(endpoint, "balls", fresh=True)
    assert again["results"][0]["value"] == 3
    assert endpoint.count == 1 + len(VIDEOS)


def test_another_judge_is_another_opinion(run: Any) -> None:
    """A resumed run keeps scores of the judge that gave them, and of no other."""
    with scripted_endpoint(lambda asked: "3" if pictures_of(asked) else "x") as three:
        first = run(three, "balls", max_requests=2, judge_concurrency=1)
    assert first["results"][0]["videos"]["videos"] == 1
    with scripted_endpoint(lambda asked: "5" if pictures_of(asked) else "x") as five:
        second = run(five, "balls", judge="openai:another")
    values = [entry["scores"]["balls"]["values"] for entry in second["videos"]]
    assert values == [{"balls": 5.0}] * 3


def test_a_run_without_a_judge_scores_the_rest(run: Any, endpoint: Endpoint) -> None:
    document = run(endpoint, "balls", "width", judge=None, judge_url=None)
    found = {record["value_name"]: record for record in document["results"]}
    assert found["width"]["value"] == 64
    assert found["balls"]["reason"] == "there is no judge to ask: name one with --judge"
    assert found["balls"]["judge"] is None
    assert document["counts"]["judge"] is None
    assert endpoint.asked == []


def test_only_text_judges_are_no_judges_of_videos(run: Any, endpoint: Endpoint) -> None:
    with pytest.raises(UsageError, match="There is no judge for balls to ask"):
        run(endpoint, "balls", judge=None, judge_text="openai:m")


def test_an_unreachable_judge_ends_the_run_and_keeps_what_is_done(run: Any) -> None:
    with scripted_endpoint("3") as gone:
        pass
    with pytest.raises(AigveError, match="No judge answers at") as caught:
        run(gone, "balls")
    assert caught.value.exit_code == 4


def test_offline_asks_no_judge_elsewhere(run: Any, endpoint: Endpoint) -> None:
    with pytest.raises(AigveError, match="--offline never uses the network"):
        run(endpoint, "balls", judge_url="http://192.0.2.1/v1", offline=True)


@dataclass(frozen=True)
class OtherWords(CountTask):
    prompt_version: ClassVar[str] = "count-2"


def test_what_decides_answers_decides_the_key_of_their_scores() -> None:
    asked = request(FRAMES, TASK)
    keys = [
        request_key(other, {"judge": digest})
        for other, digest in (
            (asked, "a"),
            (asked, "b"),
            (request(FRAMES, CountTask("dog")), "a"),
            (request(FRAMES, OtherWords()), "a"),
            (replace(asked, variant="grid"), "a"),
            (request(replace(FRAMES, view=(ResizeWithin(64),)), TASK), "a"),
        )
    ]
    assert request_key(request(FRAMES, CountTask()), {"judge": "a"}) == keys[0]
    assert len(set(keys)) == len(keys)


def test_shown_pictures_hold_no_memory_of_the_decoder(
    run: Any, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame that is not resized is a view of a buffer of many frames."""
    owners: list[Any] = []
    make = show.Shown

    def shown(frames: Any, *given: Any) -> show.Shown:
        owners.extend(frame.base for frame in frames)
        return make(frames, *given)

    monkeypatch.setattr("aigve_cli.engine.produce.Shown", shown)
    run(endpoint, "balls")
    assert owners == [None] * 4 * len(VIDEOS)


def test_an_estimate_counts_texts_once_a_prompt() -> None:
    planned = made_up(request(FRAMES, TASK))
    samples = [type("S", (), {"prompt": prompt})() for prompt in ("a", "a", "b")]
    found = estimate(planned, samples)
    # One question a distinct prompt, one a video with four pictures.
    assert (found.requests, found.images) == (2 + 3, 3 * 4)
    a_picture = 512 * 512 // 28**2
    assert found.tokens == 2 * 5 + 3 * (7 + 4 * a_picture)
    single = Frames(FRAMES.view, Centres(4, together=False))
    assert estimate(made_up(request(single, TASK)), samples).requests == 2 + 3 * 4
    grid = estimate(made_up(request(FRAMES, TASK, variant="grid")), samples)
    # One picture, of as many pixels.
    assert (grid.images, grid.tokens) == (3, found.tokens)
    video = estimate(made_up(request(FRAMES, TASK, variant="video")), samples)
    assert (video.images, video.tokens) == (12, 2 * 5 + 3 * (7 + 4 * a_picture // 2))
