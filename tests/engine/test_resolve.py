"""Which metric is computed for a requested one: decided once, by the weights that can be had."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from aigve_cli import evaluate
from aigve_cli.contract import Extent
from aigve_cli.dataset.samples import load_dataset
from aigve_cli.engine.describe import describe_plan
from aigve_cli.engine.journal import JOURNAL
from aigve_cli.engine.memory import fit_models
from aigve_cli.engine.plan import PlannedMetric
from aigve_cli.engine.resolve import Resolved, resolve_plan
from aigve_cli.engine.setup import Plan, announce_plan, make_plan
from aigve_cli.errors import WeightsError
from aigve_cli.output import Output
from aigve_cli.weights import cards, network_card
from tests.conftest import Done, moving_pattern, process_environment, read_results, write_clip
from tests.networks.checkpoints import GSTVQA, I3D, INCEPTION, R3D, write_checkpoint
from tests.weights.weights_kit import Server, serving

SIBLINGS = {"fid": "fid-lite0", "is": "is-lite0", "fvd": "fvd-lite0"}
FRAMES = 17
Aigve = Callable[..., Done]


class Said(Output):
    """An output that keeps what people are told."""

    def __init__(self) -> None:
        super().__init__(silent=True)
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs with one clip each."""
    folder = tmp_path_factory.mktemp("videos")
    for seed in range(2):
        write_clip(folder / f"{seed}.mkv", moving_pattern(seed, FRAMES))
        write_clip(folder / f"{seed}_synthetic.mkv", moving_pattern(seed + 10, FRAMES))
    return folder


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("inception"), INCEPTION)


@pytest.fixture(scope="module")
def i3d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("i3d"), I3D)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A file server that runs may ask, without a proxy in between."""
    monkeypatch.delenv("AIGVE_OFFLINE")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as server:
        yield server


@pytest.fixture
def published(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes], None]:
    """Say in a network's card that its checkpoint is this file on the server."""

    def publish(name: str, content: bytes) -> None:
        card = network_card(name)
        entry = replace(
            card.entry(),
            urls=(server.serve(f"/{name}", body=content),),
            sha256=hashlib.sha256(content).hexdigest()[:8],
        )
        changed = replace(card, weights={entry.tag: entry})
        known = {**cards.network_cards(), name: changed}
        monkeypatch.setattr(cards, "network_cards", lambda: known)

    return publish


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIGVE_CACHE_DIR", str(tmp_path / "cache"))


def plan_of(folder: Path, metrics: str, said: Said | None = None, **options: Any) -> Plan:
    usual: dict[str, Any] = {
        "weights": "auto",
        "weights_dir": None,
        "offline": False,
        "models": {},
        "options": {},
    }
    return make_plan(
        load_dataset(input_dir=folder),
        metrics=metrics.split(","),
        categories=(),
        extent=Extent(),
        output=said or Said(),
        **{**usual, **options},
    )


def resolved(folder: Path, metrics: str, **options: Any) -> Resolved:
    return resolve_plan(plan_of(folder, metrics, **options))


def chosen(found: Resolved) -> dict[str, str]:
    return {planned.requested: planned.name for planned in found.plan.metrics}


def only(found: Resolved) -> PlannedMetric:
    (planned,) = found.plan.metrics
    return planned


# --- several networks, several checkpoints ----------------------------------------------------


def test_nothing_is_fetched_for_a_metric_that_stays_without_the_rest(videos, server, published):
    published("slowfast-r50", b"would be fetched")
    found = resolved(videos, "simplevqa,is-lite0")
    missing = found.plan.metrics[0].missing
    assert "UGC_BVQA_model.pth" in missing
    assert server.asked == []


def test_all_that_is_missing_is_said_at_once(videos):
    with pytest.raises(WeightsError) as caught:
        resolved(videos, "gstvqa,simplevqa", offline=True)
    for name in ("gstvqa", "vgg16", "simplevqa", "slowfast-r50"):
        assert f"The weights of {name} (" in caught.value.message
    assert (
        "https://drive.google.com/file/d/137XJdq3reNMJ9tkBNqKUYTY_dTlcwXc3" in caught.value.message
    )
    assert "--model NETWORK=PATH" in (caught.value.hint or "")


def test_the_checkpoint_of_another_training_set_is_another_file(videos, tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    path = write_checkpoint(folder, GSTVQA)
    (tmp_path / "vgg16.pth").write_bytes(b"not read yet")
    options = {"weights_dir": folder, "models": {"vgg16": tmp_path / "vgg16.pth"}}
    assert resolved(videos, "gstvqa", **options).located["gstvqa"].tag == "konvid"
    other = folder / path.name.replace("konvid", "cvd14")
    path.rename(other)
    settings = {"gstvqa": {"weights": "cvd14"}}
    found = resolved(videos, "gstvqa", **options, options=settings)
    assert found.located["gstvqa:cvd14"].path == other
    with pytest.raises(WeightsError, match=r"gstvqa \(konvid\).*missing"):
        resolved(videos, "gstvqa", **options, offline=True)


# --- auto, standard, embedded -----------------------------------------------------------------


def test_auto_without_weights_takes_the_siblings_and_says_why(videos):
    said = Said()
    found = resolve_plan(plan_of(videos, "fid,is,fvd", said))
    assert chosen(found) == SIBLINGS
    assert {here.origin for here in found.located.values()} == {"embedded"}
    for planned in found.plan.metrics:
        assert "Offline: nothing is fetched" in planned.why
        assert ("Inception" if planned.requested != "fvd" else "i3d").lower() in planned.why.lower()
    warnings = announce_plan(found.plan, said)
    assert any("fid-lite0 for fid" in line and "not comparable" in line for line in warnings)
    assert said.warnings == warnings


def test_auto_takes_what_lies_in_the_weights_folder(videos, i3d):
    found = resolved(videos, "fid,fvd,kvd", weights_dir=i3d.parent)
    assert chosen(found) == {"fid": "fid-lite0", "fvd": "fvd", "kvd": "kvd"}
    here = found.located[I3D]
    assert (here.path, here.origin, here.verified) == (i3d, "standard", False)


def test_auto_fetches_from_the_address_of_the_card(videos, i3d, published, server):
    published(I3D, i3d.read_bytes())
    found = resolved(videos, "fvd,kvd")
    assert chosen(found) == {"fvd": "fvd", "kvd": "kvd"}
    assert found.located[I3D].origin == "standard"
    assert found.located[I3D].verified
    assert len(server.asked) == 1
    resolved(videos, "fvd", offline=True)
    assert len(server.asked) == 1


def test_auto_says_what_went_wrong_when_fetching(videos, server, published):
    published(I3D, b"never sent")
    server.answers.clear()
    planned = only(resolved(videos, "fvd"))
    assert planned.name == "fvd-lite0"
    assert "could not be fetched" in planned.why
    assert "404" in planned.why
    assert len(server.asked) == 1


def test_a_metric_without_a_sibling_keeps_a_reason(videos):
    found = resolved(videos, "fvd,kvd")
    kvd = found.plan.metrics[1]
    assert kvd.name == "kvd"
    assert "i3d_pretrained_400.pt" in kvd.missing
    assert f"--model {I3D}=PATH" in kvd.missing
    assert found.plan.computed == found.plan.metrics[:1]
    assert I3D not in found.located


def test_a_metric_without_a_sibling_alone_is_an_error(videos):
    with pytest.raises(WeightsError, match=r"i3d_pretrained_400\.pt") as caught:
        resolved(videos, "kvd")
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(("metric", "name"), [("fid", INCEPTION), ("fvd", I3D)])
def test_standard_refuses_and_says_where_to_get_it(videos, tmp_path, metric, name):
    entry = network_card(name).entry()
    (tmp_path / "mine").mkdir()
    with pytest.raises(WeightsError) as caught:
        resolved(videos, f"{metric},fid-lite0", weights="standard", weights_dir=tmp_path / "mine")
    error = caught.value
    assert error.exit_code == 4
    for part in (entry.file, str(tmp_path / "mine"), " MB", f"licence {entry.licence}"):
        assert part in error.message
    for part in (*entry.urls, "--weights-dir", f"--model {name}=PATH"):
        assert part in str(error.hint)


def test_embedded_takes_the_siblings_and_never_asks_the_network(videos, published, server, i3d):
    published(I3D, i3d.read_bytes())
    found = resolved(videos, "fid,is,fvd,kvd", weights="embedded", weights_dir=i3d.parent)
    assert chosen(found) == {**SIBLINGS, "kvd": "kvd"}
    assert "--weights embedded" in found.plan.metrics[-1].missing
    assert server.asked == []


def test_one_network_named_and_one_missing(videos, inception):
    found = resolved(videos, "fid,fvd", models={INCEPTION: inception})
    assert chosen(found) == {"fid": "fid", "fvd": "fvd-lite0"}
    assert found.located[INCEPTION].origin == "custom"


# --- wrong files ------------------------------------------------------------------------------

HTML = b"<!DOCTYPE html><html>404</html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 51235320\n"


def test_a_wrong_file_in_the_users_folder_is_an_error_under_auto(videos, inception):
    """The published digest is known: a file of that name with other bytes is a mistake."""
    with pytest.raises(WeightsError, match="the card says 6726825d") as caught:
        resolved(videos, "fid", weights_dir=inception.parent)
    assert str(inception) in caught.value.message
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("content", "says"), [(HTML, "web page"), (LFS, "Git LFS"), (b"", "empty")]
)
def test_a_named_file_of_another_kind_is_an_error_under_auto(videos, tmp_path, content, says):
    path = tmp_path / "mine.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=says) as caught:
        resolved(videos, "fvd", models={I3D: path})
    assert str(path) in caught.value.message
    assert caught.value.exit_code == 4


def test_a_named_file_that_is_not_there_is_an_error_under_auto(videos, tmp_path):
    with pytest.raises(WeightsError, match="there is no file") as caught:
        resolved(videos, "fvd", models={I3D: tmp_path / "none.pt"})
    assert str(tmp_path / "none.pt") in caught.value.message


def cut_short(path: Path, i3d: Path) -> None:
    path.write_bytes(i3d.read_bytes()[:100_000])


def of_another_network(path: Path, i3d: Path) -> None:
    write_checkpoint(path.parent, R3D).rename(path)


def torchscript(path: Path, i3d: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (cut_short, "cannot be read as a checkpoint"),
        (of_another_network, f"does not fit {I3D}"),
        (torchscript, "TorchScript archive"),
    ],
)
@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_a_named_file_that_does_not_load_is_an_error_under_auto(videos, i3d, tmp_path, make, says):
    path = tmp_path / "mine.pt"
    make(path, i3d)
    with pytest.raises(WeightsError, match=says) as caught:
        evaluate(videos, metrics="fvd", device="cpu", models={I3D: path}, output_dir=tmp_path)
    assert str(path) in caught.value.message
    assert caught.value.exit_code == 4
    assert not (tmp_path / "results.json").exists()


# --- a dry run --------------------------------------------------------------------------------


def described(plan, folder, said):
    fit = fit_models(resolve_plan(plan, fetch=False), device="cpu", precision="auto")
    return describe_plan(fit, folder, said)


def test_a_dry_run_says_what_would_be_fetched_and_fetches_nothing(
    videos, published, server, tmp_path
):
    published(I3D, b"never sent")
    said = Said()
    rows = described(plan_of(videos, "fid,fvd", offline=False), tmp_path, said)
    assert [row["metric"] for row in rows] == ["fid", "fvd"]
    assert any(line.startswith(f"{I3D}: not here: i3d_pretrained_400.pt is") for line in said.notes)
    assert server.asked == []


def test_a_dry_run_says_what_would_be_substituted(videos, tmp_path):
    said = Said()
    rows = described(plan_of(videos, "fid,kvd", offline=True), tmp_path, said)
    assert [(row["metric"], row["requested"]) for row in rows] == [("fid-lite0", "fid")]
    assert any("fid-lite0 for fid" in line for line in said.warnings)
    assert any(line.startswith("kvd has no number") for line in said.warnings)


def test_a_dry_run_and_a_damaged_file_in_the_cache(videos, published, server, tmp_path):
    published(I3D, b"never sent")
    plan = plan_of(videos, "fvd")
    plan.policy.cache_dir.mkdir(parents=True)
    (plan.policy.cache_dir / "i3d_pretrained_400.pt").write_bytes(HTML)
    said = Said()
    described(plan, tmp_path, said)
    assert any("not here: i3d_pretrained_400.pt" in line for line in said.notes)
    assert server.asked == []


def test_a_dry_run_as_a_process(videos, aigve, tmp_path):
    done = aigve(
        *("compute", "--input-dir", videos, "--metrics", "fvd,kvd", "--dry-run", "--use-cpu"),
        *("--output-dir", tmp_path / "out", "--format", "json"),
    )
    assert done.code == 0, done.stderr
    assert [row["metric"] for row in json.loads(done.stdout)] == ["fvd-lite0"]
    assert "fvd-lite0 for fvd" in done.stderr
    assert not (tmp_path / "out").exists()


# --- the document -----------------------------------------------------------------------------


def test_what_the_results_say(videos, tmp_path):
    results = evaluate(videos, metrics="fvd,kvd", device="cpu", output_dir=tmp_path)
    assert results.exit_code == 3
    document = read_results(tmp_path)
    (substitution,) = document["substitutions"]
    assert (substitution["requested"], substitution["metric"]) == ("fvd", "fvd-lite0")
    assert "i3d_pretrained_400.pt" in substitution["why"]
    assert any("fvd-lite0 for fvd" in line for line in document["warnings"])
    fvd, kvd = document["results"]
    assert (fvd["requested"], fvd["metric"], fvd["weights"]) == ("fvd", "fvd-lite0", "embedded")
    assert fvd["value"] is not None
    assert (kvd["metric"], kvd["value"]) == ("kvd", None)
    assert "i3d_pretrained_400.pt" in kvd["reason"]
    assert not (tmp_path / "fvd_results.json").exists()


def test_a_metric_requested_twice_keeps_the_settings_of_each_name(videos, tmp_path):
    """Settings of kid reach kid-lite0 where it stands in, not where it is named itself."""
    results = evaluate(
        videos,
        metrics="kid,kid-lite0",
        options={"kid": {"estimator": "subsets", "subset-size": 8}},
        max_len=8,
        device="cpu",
        output_dir=tmp_path,
    )
    options = {record["requested"]: record["options"] for record in results.records}
    assert options["kid-lite0"]["estimator"] == "all-pairs"


# --- a run that goes on -----------------------------------------------------------------------


def journal_lines(folder: Path) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in (folder / JOURNAL).read_bytes().splitlines()]


def interrupt(folder: Path) -> None:
    """Leave a finished run as one that died before its end."""
    journal = folder / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    assert json.loads(lines[-1])["kind"] == "finished"
    journal.write_bytes(b"".join(lines[:-1]))


def run(videos: Path, folder: Path, said: Said | None = None, **options: Any):
    usual: dict[str, Any] = {"metrics": "fvd", "device": "cpu", "keep_features": True}
    # Nine frames are the least that I3D takes.
    settings = {"fvd": {"length": 9}}
    return evaluate(
        videos, output_dir=folder, output=said, options=settings, **{**usual, **options}
    )


def test_siblings_stay_although_weights_have_arrived(videos, i3d, tmp_path, counting_ffmpeg):
    first = run(videos, tmp_path)
    interrupt(tmp_path)
    # Twice: a line that says "resumed" is not the header, and must not be taken for one.
    for _ in range(2):
        said = Said()
        again = run(videos, tmp_path, said, weights_dir=i3d.parent)
        assert [record["metric"] for record in again.records] == ["fvd-lite0"]
        assert again.value("fvd-lite0") == first.value("fvd-lite0")
        (substitution,) = again.document["substitutions"]
        assert "unfinished run in this folder began with it" in substitution["why"]
        assert any("began with it" in line for line in said.warnings)
        interrupt(tmp_path)
    assert counting_ffmpeg.decodes() == 4
    kinds = [line["kind"] for line in journal_lines(tmp_path)]
    assert kinds.count("header") == 1
    assert kinds.count("resumed") == 2

    fresh = run(videos, tmp_path, weights_dir=i3d.parent, fresh=True)
    assert [record["metric"] for record in fresh.records] == ["fvd"]
    assert fresh.document["substitutions"] == []


def test_standard_decides_anew(videos, i3d, tmp_path):
    run(videos, tmp_path)
    interrupt(tmp_path)
    again = run(videos, tmp_path, weights="standard", weights_dir=i3d.parent)
    assert [record["metric"] for record in again.records] == ["fvd"]
    assert again.document["substitutions"] == []


def test_a_killed_run_that_began_with_siblings(videos, i3d, tmp_path, counting_ffmpeg):
    out = tmp_path / "out"
    arguments = (
        *("compute", "--input-dir", videos, "--metrics", "fvd", "--set", "fvd.length=9"),
        *("--output-dir", out, "--use-cpu", "--decode-workers", "1"),
    )
    killed = subprocess.run(
        [sys.executable, "-c", "from aigve_cli.main import run; run()", *map(str, arguments)],
        env=process_environment({"KILL_AT": "4"}),
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    header, *seen = journal_lines(out)
    assert header["about"]["metrics"] == {"fvd": "fvd-lite0"}
    assert seen
    assert seen[-1]["kind"] != "finished"
    again = run(videos, out, weights_dir=i3d.parent)
    assert [record["metric"] for record in again.records] == ["fvd-lite0"]
    whole = run(videos, tmp_path / "whole")
    assert again.value("fvd-lite0") == whole.value("fvd-lite0")


def test_a_run_that_began_with_the_published_network_needs_it(videos, i3d, tmp_path):
    first = run(videos, tmp_path, weights_dir=i3d.parent)
    assert [record["metric"] for record in first.records] == ["fvd"]
    interrupt(tmp_path)
    journal = (tmp_path / JOURNAL).read_bytes()
    with pytest.raises(WeightsError, match="missing") as caught:
        run(videos, tmp_path)
    assert caught.value.exit_code == 4
    assert (tmp_path / JOURNAL).read_bytes() == journal
    back = run(videos, tmp_path, weights_dir=i3d.parent)
    assert back.value("fvd") == first.value("fvd")
    interrupt(tmp_path)
    fresh = run(videos, tmp_path, fresh=True)
    assert [record["metric"] for record in fresh.records] == ["fvd-lite0"]


def test_a_run_that_cannot_go_on_names_the_way_out(videos, i3d, tmp_path):
    run(videos, tmp_path, weights_dir=i3d.parent, metrics="fvd")
    interrupt(tmp_path)
    with pytest.raises(WeightsError) as caught:
        run(videos, tmp_path)
    assert "--fresh" in str(caught.value.hint)


def test_a_finished_run_decides_nothing_for_the_next(videos, i3d, tmp_path):
    run(videos, tmp_path)
    later = run(videos, tmp_path, weights_dir=i3d.parent)
    assert [record["metric"] for record in later.records] == ["fvd"]
    assert later.document["substitutions"] == []


def test_a_partial_run_decides_nothing_for_the_next(videos, i3d, tmp_path):
    """Its rows are kept for the video that failed, not its networks."""
    given = tmp_path / "in"
    given.mkdir()
    for path in videos.iterdir():
        (given / path.name).hardlink_to(path)
    (given / "bad_synthetic.mkv").write_bytes(b"no video" * 100)
    assert run(given, tmp_path / "out", keep_features=False).exit_code == 3
    later = run(given, tmp_path / "out", weights_dir=i3d.parent)
    assert [record["metric"] for record in later.records] == ["fvd"]


def test_a_run_that_saw_no_video_decides_nothing_for_the_next(videos, i3d, tmp_path):
    """A checkpoint that does not load must not bind the run that is started without it."""
    broken = tmp_path / "mine.pt"
    cut_short(broken, i3d)
    with pytest.raises(WeightsError):
        run(videos, tmp_path, models={I3D: broken})
    assert [line["kind"] for line in journal_lines(tmp_path)] == ["header"]
    assert [record["metric"] for record in run(videos, tmp_path).records] == ["fvd-lite0"]


def test_another_metric_later_is_decided_then(videos, i3d, tmp_path):
    run(videos, tmp_path, metrics="is")
    interrupt(tmp_path)
    both = run(videos, tmp_path, metrics="is,fvd", weights_dir=i3d.parent)
    assert [record["metric"] for record in both.records] == ["is-lite0", "fvd"]
