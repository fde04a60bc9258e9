"""Models in folders: where they are looked for, what is believed of them, how one is fetched."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants
from loopback_hub import (
    COMMIT,
    CONFIG,
    MODEL,
    OTHER_COMMIT,
    PROCESSOR,
    UNREAD,
    WEIGHTS,
    Hub,
    hub_environment,
    safetensors_of,
    serving_hub,
)

from aigve_cli.errors import AigveError, MissingWeightsError, UsageError, WeightsError
from aigve_cli.weights import (
    NetworkCard,
    WeightsEntry,
    WeightsPolicy,
    check as check_module,
    find_weights,
    locate_weights,
    located_bytes,
    network_card,
    weights_policy,
    weights_status,
)
from aigve_cli.weights.hub import hub_cache
from tests.conftest import Done, process_environment

ID = "someone/tiny"
BARE = {"config.json": CONFIG, "model.safetensors": WEIGHTS}
"""A model that is published without tokenizer and image processor."""
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serving_hub() as hub:
        for name, value in hub_environment(hub, str(tmp_path / "hf")).items():
            monkeypatch.setenv(name, value)
        for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "AIGVE_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        # Read once, when the library is imported: by whatever test came first.
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        yield hub


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub waits a second before it goes on with a transfer that broke."""
    module = sys.modules[huggingface_hub.hf_hub_download.__module__]
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda _: None, time=time.time))


def tiny(**facts: object) -> NetworkCard:
    """A network with one published folder, pinned to a commit unless told otherwise."""
    known = {
        "hub_id": ID,
        "hub_revision": COMMIT,
        "about_bytes": 205_000,
        "licence": "card's MIT",
        **facts,
    }
    entry = WeightsEntry(tag="base", file="tiny-base", **known)  # type: ignore[arg-type]
    return NetworkCard(
        name="tiny",
        title="A tiny model",
        kind="network",
        layout="folder",
        outputs={"image": 0},
        default_weights="base",
        weights={"base": entry},
    )


def write(folder: Path, files: dict[str, bytes] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (MODEL if files is None else files).items():
        (folder / name).write_bytes(content)
    return folder


def cache_model(
    files: dict[str, bytes] | None = None,
    *,
    hub_id: str = ID,
    commit: str = COMMIT,
    ref: str = "",
    cache: Path | None = None,
    blob_names: dict[str, str] | None = None,
) -> Path:
    """A model in a cache in the Hub's layout, of links to blobs as huggingface_hub makes it."""
    base = (cache or hub_cache()) / f"models--{hub_id.replace('/', '--')}"
    blobs, snapshot = base / "blobs", base / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for name, content in (MODEL if files is None else files).items():
        blob = (blob_names or {}).get(name, f"{commit}-{name}")
        write(blobs, {blob: content})
        (snapshot / name).symlink_to(Path("../../blobs") / blob)
    if ref:
        write(base / "refs", {ref: commit.encode()})
    return snapshot


def offline(policy: WeightsPolicy) -> WeightsPolicy:
    return replace(policy, offline=True)


def error_of(
    card: NetworkCard, policy: WeightsPolicy, *, tag: str | None = None
) -> MissingWeightsError:
    with pytest.raises(MissingWeightsError) as caught:
        locate_weights(card, policy, tag=tag)
    assert caught.value.exit_code == 4
    return caught.value


# Where it is looked for


def test_order_is_named_option_weights_folder_cache_hub(
    hub: Hub, policy: WeightsPolicy, tmp_path: Path
) -> None:
    card = tiny()
    hub.publish(ID)
    fetched = locate_weights(card, policy)
    assert fetched.path == hub_cache() / "models--someone--tiny" / "snapshots" / COMMIT
    assert (fetched.origin, fetched.tag, fetched.licence) == ("standard", "base", "card's MIT")
    assert fetched.published == f"{ID}@{COMMIT}"
    assert fetched.processor is None
    asked = len(hub.asked)
    top = tmp_path / "W"
    policy = replace(policy, weights_dir=top)
    assert locate_weights(card, policy).path == fetched.path

    # From the last to the first place in the weights folder: each beats the one before.
    in_cache_layout = cache_model(cache=top)
    assert locate_weights(card, policy).path == in_cache_layout
    assert locate_weights(card, policy).published == f"{ID}@{COMMIT}"
    by_owner = write(top / ID)
    assert locate_weights(card, policy).path == by_owner
    by_name = write(top / "tiny-base")
    located = locate_weights(card, policy)
    assert (located.path, located.origin, located.published) == (by_name, "standard", "")

    own = write(tmp_path / "own")
    policy = replace(policy, custom={"tiny": own})
    located = locate_weights(card, policy)
    assert (located.path, located.origin, located.tag) == (own, "custom", str(own))
    assert located.licence == "unknown"
    outright = write(tmp_path / "outright")
    located = locate_weights(card, policy, tag=str(outright))
    assert (located.path, located.origin, located.tag) == (outright, "custom", str(outright))
    assert len(hub.asked) == asked, "what is here is not asked for"


def test_option_does_not_take_the_place_of_a_model_that_was_named_outright(
    hub: Hub, policy: WeightsPolicy, tmp_path: Path
) -> None:
    hub.publish("other/model")
    policy = replace(policy, custom={"tiny": write(tmp_path / "own")})
    located = locate_weights(tiny(), policy, tag="other/model")
    assert located.published == f"other/model@{COMMIT}"
    assert located.origin == "custom"
    assert locate_weights(tiny(), policy, tag=ID).origin == "custom", "the card's own by its id"


def test_a_bare_name_in_the_weights_folder_is_only_what_a_card_names(
    hub: Hub, policy: WeightsPolicy, tmp_path: Path
) -> None:
    """`W/tiny-base` is the card's; another owner's model of that name is something else."""
    write(tmp_path / "tiny-base")
    policy = offline(replace(policy, weights_dir=tmp_path))
    assert locate_weights(tiny(), policy).path == tmp_path / "tiny-base"
    error = error_of(tiny(), policy, tag="else/tiny-base")
    assert str(tmp_path / "else" / "tiny-base") in str(error.hint)
    write(tmp_path / "else" / "tiny-base")
    located = locate_weights(tiny(), policy, tag="else/tiny-base")
    assert located.path == tmp_path / "else" / "tiny-base"


@pytest.mark.parametrize("ref", ["main", ""])
def test_a_models_folder_of_a_cache_can_be_named(hub: Hub, policy: WeightsPolicy, ref: str) -> None:
    snapshot = cache_model(ref=ref)
    base = snapshot.parent.parent
    assert locate_weights(tiny(), policy, tag=str(base)).path == snapshot
    assert locate_weights(tiny(), replace(policy, custom={"tiny": base})).path == snapshot
    assert weights_status(tiny(), policy, tag=str(base)) == "here"


def test_cache_follows_the_environment(tmp_path: Path) -> None:
    home = str(Path.home() / ".cache")
    assert hub_cache({}) == Path(home, "huggingface", "hub")
    assert hub_cache({"XDG_CACHE_HOME": "/x"}) == Path("/x/huggingface/hub")
    assert hub_cache({"XDG_CACHE_HOME": "/x", "HF_HOME": "/h"}) == Path("/h/hub")
    assert hub_cache({"HF_HOME": "/h", "HUGGINGFACE_HUB_CACHE": "/old"}) == Path("/old")
    assert hub_cache({"HUGGINGFACE_HUB_CACHE": "/old", "HF_HUB_CACHE": "~/c"}) == Path.home() / "c"


def test_cache_is_the_one_that_huggingface_hub_uses() -> None:
    code = (
        "from huggingface_hub.constants import HF_HUB_CACHE; from aigve_cli.weights.hub import "
        "hub_cache; assert str(hub_cache()) == HF_HUB_CACHE, (hub_cache(), HF_HUB_CACHE)"
    )
    for facts in ({}, {"HF_HOME": "/h"}, {"HF_HUB_CACHE": "$HOME/c"}, {"XDG_CACHE_HOME": "/x"}):
        env = {k: v for k, v in process_environment().items() if not k.startswith(("HF_", "XDG_"))}
        subprocess.run([sys.executable, "-c", code], check=True, env={**env, **facts})


# Fetching


def test_everything_is_announced_before_a_byte_is_fetched(hub: Hub, policy: WeightsPolicy) -> None:
    hub.publish(ID, {**MODEL, **UNREAD}, licence="apache-2.0")
    said: list[tuple[str, int]] = []
    policy = replace(policy, announce=lambda text: said.append((text, len(hub.fetched))))
    locate_weights(tiny(), policy)
    text = " ".join(line for line, fetched in said if fetched == 0)
    size = sum(len(content) for content in MODEL.values())
    for part in (ID, COMMIT, "5 files", f"{size / 1e6:.1f} MB", "apache-2.0", hub.url):
        assert part in text
    assert sorted(hub.fetched) == sorted(MODEL)


@pytest.mark.parametrize(
    ("licence", "says"),
    [(None, "card's MIT"), (["mit", "cc0-1.0"], "mit, cc0-1.0")],
)
def test_licence_is_the_hubs_else_the_cards(
    hub: Hub, policy: WeightsPolicy, said: list[str], licence: object, says: str
) -> None:
    hub.publish(ID, licence=licence)
    locate_weights(tiny(), policy)
    assert f"licence {says}." in "\n".join(said)


def test_only_what_is_read_is_fetched(hub: Hub, policy: WeightsPolicy) -> None:
    hub.publish(ID, {**MODEL, **UNREAD})
    folder = locate_weights(tiny(), policy).path
    assert {path.name for path in folder.iterdir()} == set(MODEL)


def test_older_weights_only_where_there_are_no_others(hub: Hub, policy: WeightsPolicy) -> None:
    old = {"config.json": CONFIG, **PROCESSOR, **UNREAD}
    hub.publish(ID, old)
    locate_weights(tiny(), policy)
    assert set(hub.fetched) == {"config.json", "pytorch_model.bin", *PROCESSOR}


def test_shards_are_fetched_with_their_index(hub: Hub, policy: WeightsPolicy) -> None:
    shards = {f"model-0000{i}-of-00002.safetensors": safetensors_of(b"." * i) for i in (1, 2)}
    index = json.dumps({"weight_map": dict(zip("ab", shards, strict=True))}).encode()
    files = {"config.json": CONFIG, **PROCESSOR, **shards, "model.safetensors.index.json": index}
    hub.publish(ID, {**files, "model.fp16-00001-of-00002.safetensors": b"half", **UNREAD})
    located = locate_weights(tiny(), policy)
    assert set(hub.fetched) == set(files)
    assert located_bytes(located) == sum(map(len, files.values()))


def test_progress_counts_the_bytes_of_all_files(hub: Hub, policy: WeightsPolicy) -> None:
    hub.publish(ID)
    seen: list[tuple[int, int | None]] = []
    locate_weights(tiny(), replace(policy, progress=lambda *counts: seen.append(counts)))
    size = sum(map(len, MODEL.values()))
    assert seen[-1] == (size, size)
    assert [here for here, _ in seen] == sorted(here for here, _ in seen)


def test_pinned_revision_is_fetched_though_main_is_here(hub: Hub, policy: WeightsPolicy) -> None:
    cache_model(commit=OTHER_COMMIT, ref="main")
    hub.publish(ID, commit=OTHER_COMMIT)
    hub.publish(ID, {**MODEL, "model.safetensors": safetensors_of(b"pinned")}, refs=())
    error = error_of(tiny(), offline(policy))
    assert "other revisions" in error.message
    located = locate_weights(tiny(), policy)
    assert located.path.name == COMMIT
    assert (located.path / "model.safetensors").read_bytes() == safetensors_of(b"pinned")
    assert (hub_cache() / "models--someone--tiny" / "refs" / "main").read_text() == OTHER_COMMIT


def test_without_a_revision_main_is_taken_and_stays(hub: Hub, policy: WeightsPolicy) -> None:
    hub.publish("any/model", commit=OTHER_COMMIT)
    located = locate_weights(tiny(), policy, tag="any/model")
    assert located.published == f"any/model@{OTHER_COMMIT}"
    assert (located.origin, located.licence) == ("custom", "unknown")
    hub.publish(
        "any/model", {**MODEL, "model.safetensors": safetensors_of(b"newer")}, commit=COMMIT
    )
    assert locate_weights(tiny(), offline(policy), tag="any/model") == located
    assert locate_weights(tiny(), policy, tag="any/model") == located


@pytest.mark.parametrize("revision", ["v1", "refs/pr/7", OTHER_COMMIT])
def test_revision_behind_an_id(hub: Hub, policy: WeightsPolicy, revision: str) -> None:
    hub.publish("any/model")
    hub.publish("any/model", commit=OTHER_COMMIT, refs=("v1", "refs/pr/7"))
    tag = f"any/model@{revision}"
    located = locate_weights(tiny(), policy, tag=tag)
    assert located.published == f"any/model@{OTHER_COMMIT}"
    assert locate_weights(tiny(), offline(policy), tag=tag) == located
    with pytest.raises(MissingWeightsError):
        locate_weights(tiny(), offline(policy), tag="any/model")


@pytest.mark.parametrize("revision", ["../../../x", "/etc", "a b"])
def test_revision_that_would_leave_the_cache_is_refused(
    hub: Hub, policy: WeightsPolicy, revision: str
) -> None:
    with pytest.raises(UsageError, match="is no revision of any/model"):
        locate_weights(tiny(), policy, tag=f"any/model@{revision}")
    assert hub.asked == []


# Not fetching


def test_offline_says_all_that_is_needed_and_asks_nobody(
    hub: Hub, policy: WeightsPolicy, tmp_path: Path
) -> None:
    hub.publish(ID)
    policy = offline(replace(policy, weights_dir=tmp_path / "W"))
    error = error_of(tiny(), policy)
    for part in (
        f"{ID} at revision {COMMIT}",
        "about 0 MB",
        "licence card's MIT",
        str(tmp_path / "W" / "tiny-base"),
        str(tmp_path / "W" / ID),
        str(hub_cache() / "models--someone--tiny"),
        "Offline: nothing is fetched.",
    ):
        assert part in error.message
    assert f"Put it as {tmp_path / 'W' / 'tiny-base'}" in str(error.hint)
    assert "--model tiny=FOLDER" in str(error.hint)
    assert "--model tiny=FOLDER" in error.short
    assert find_weights(tiny(), policy) is None
    assert hub.asked == []


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "AIGVE_OFFLINE"])
def test_offline_by_the_environment(hub: Hub, variable: str) -> None:
    hub.publish(ID)
    policy = weights_policy(environ={**os.environ, variable: "1"})
    assert "Offline" in error_of(tiny(), policy).message
    assert hub.asked == []


def test_offline_that_only_huggingface_hub_was_told(
    hub: Hub, policy: WeightsPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "TRANSFORMERS_OFFLINE" in error_of(tiny(), policy).message
    assert hub.asked == []


def test_embedded_mode_fetches_nothing_and_takes_what_is_named(
    hub: Hub, policy: WeightsPolicy, tmp_path: Path
) -> None:
    cache_model()
    policy = replace(policy, mode="embedded")
    assert "--weights embedded" in error_of(tiny(), policy).message
    assert weights_status(tiny(), policy) == "missing"
    own = write(tmp_path / "own")
    assert locate_weights(tiny(), replace(policy, custom={"tiny": own})).path == own


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (404, "RepoNotFound", "no such model"),
        (401, "", "does not exist, or it is private"),
        (401, "RepoNotFound", "does not exist, or it is private"),
        (401, "GatedRepo", "gated"),
        (403, "GatedRepo", "accept its terms at"),
        (403, "", "access is refused"),
        (500, "", "answered HTTP 500"),
    ],
)
def test_refusal_is_one_sentence(
    hub: Hub, policy: WeightsPolicy, status: int, code: str, says: str
) -> None:
    hub.publish(ID, refused=status, error_code=code)
    error = error_of(tiny(), policy)
    assert says in error.message
    assert f"HTTP {status}" in error.message
    assert f"{hub.url}/{ID}" in error.message
    assert len(error.message.splitlines()) == 2
    assert "Put it as" in str(error.hint)
    assert len(hub.asked) == 1, "one try"


def test_unknown_revision(hub: Hub, policy: WeightsPolicy) -> None:
    hub.publish("any/model")
    error = error_of(tiny(), policy, tag="any/model@nope")
    assert "it has no revision nope (HTTP 404)" in error.message


def test_no_hub(hub: Hub, policy: WeightsPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", f"http://{host}")
        assert f"no connection to {host}" in error_of(tiny(), policy).message


def test_silent_hub(hub: Hub, policy: WeightsPolicy) -> None:
    hub.silent = True
    assert "was silent for too long" in error_of(tiny(), policy).message
    assert len(hub.asked) == 1


@pytest.mark.parametrize(
    "words", [b"<html>Sign in", b"[]", b'{"siblings": []}', b'{"id": "a/b", "sha": "../x"}']
)
def test_somebody_else_answers(hub: Hub, policy: WeightsPolicy, words: bytes) -> None:
    hub.publish(ID)
    hub.words = words
    assert "did not answer as the Hugging Face Hub does" in error_of(tiny(), policy).message
    assert len(hub.asked) == 1


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"config.json": CONFIG, **PROCESSOR, "tf_model.h5": b"x"}, "no model that transformers"),
        ({"model.safetensors": WEIGHTS, **PROCESSOR}, "no model that transformers"),
        (BARE, "there is no tokenizer in it"),
        ({**BARE, "tokenizer.json": b"{}"}, "there is no image processor in it"),
    ],
)
def test_what_is_no_model_is_known_before_it_is_fetched(
    hub: Hub, policy: WeightsPolicy, files: dict[str, bytes], says: str
) -> None:
    hub.publish(ID, files)
    assert says in error_of(tiny(), policy).message
    assert hub.fetched == []


def test_full_disk_is_known_before_a_byte_is_fetched(
    hub: Hub, policy: WeightsPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish(ID)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(WeightsError, match=r"0\.2 MB are needed and 0\.0 MB are free") as caught:
        locate_weights(tiny(), policy)
    assert "HF_HUB_CACHE" in str(caught.value.hint)
    assert hub.fetched == []


def test_cache_that_cannot_be_written(
    hub: Hub, policy: WeightsPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish(ID)
    write(tmp_path, {"file": b""})
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    with pytest.raises(WeightsError, match="cannot be written") as caught:
        locate_weights(tiny(), policy)
    assert str(tmp_path / "file") in caught.value.message


# Transfers that break


def test_cut_transfer_is_made_good_by_one_more_of_that_file(
    hub: Hub, policy: WeightsPolicy, impatient: None
) -> None:
    hub.publish(ID, stop_after={"model.safetensors": [1000]})
    # Some releases of huggingface_hub ask again by themselves, others when they are next called.
    with suppress(MissingWeightsError):
        locate_weights(tiny(), policy)
    located = locate_weights(tiny(), policy)
    assert (located.path / "model.safetensors").read_bytes() == WEIGHTS
    assert sorted(hub.fetched) == sorted([*MODEL, "model.safetensors"])


def test_transfer_that_always_breaks_keeps_the_other_files(
    hub: Hub, policy: WeightsPolicy, impatient: None
) -> None:
    model = hub.publish(ID, stop_after={"model.safetensors": [0] * 50})
    error = error_of(tiny(), policy)
    assert "closed the connection before the end" in error.message
    assert weights_status(tiny(), policy) == "to fetch"
    left = error_of(tiny(), offline(policy))
    assert f"in its snapshot {COMMIT}, there are no weights in it" in left.message
    model.stop_after.clear()
    hub.asked.clear()
    located = locate_weights(tiny(), policy)
    assert (located.path / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.fetched == ["model.safetensors"]


def test_file_that_is_listed_and_gone(hub: Hub, policy: WeightsPolicy) -> None:
    hub.publish(ID, no_such_blob={"model.safetensors"})
    assert "no such model or file" in error_of(tiny(), policy).message


def test_ctrl_c_ends_it_and_the_next_run_goes_on(hub: Hub, policy: WeightsPolicy) -> None:
    hub.publish(ID)

    def interrupt(here: int, _: int | None) -> None:
        if here > 1000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        locate_weights(tiny(), replace(policy, progress=interrupt))
    assert find_weights(tiny(), policy) is None
    hub.asked.clear()
    assert locate_weights(tiny(), policy).sha256
    assert hub.fetched == ["model.safetensors"]


@pytest.mark.parametrize("lost", ["model.safetensors", "config.json", "tokenizer.json"])
def test_link_to_nothing_in_the_cache(hub: Hub, policy: WeightsPolicy, lost: str) -> None:
    """What a download that was killed, or a clean-up by hand, leaves behind."""
    hub.publish(ID)
    snapshot = cache_model()
    (snapshot / lost).resolve().unlink()
    write(snapshot.parent.parent / "blobs", {"0123.incomplete": b"half"})
    assert find_weights(tiny(), policy) is None
    assert weights_status(tiny(), policy) == "to fetch"
    error = error_of(tiny(), offline(policy))
    assert f"{lost} is a link to nothing, a download was interrupted" in error.message
    assert locate_weights(tiny(), policy).path == snapshot
    assert hub.fetched == [lost]


@pytest.mark.parametrize("blob", ["another", hashlib.sha256(WEIGHTS).hexdigest()])
def test_wrong_file_in_the_cache_is_fetched_again(
    hub: Hub, policy: WeightsPolicy, said: list[str], blob: str
) -> None:
    """Also where the wrong bytes lie under the name of the right ones."""
    hub.publish(ID)
    wrong = {**MODEL, "model.safetensors": LFS}
    snapshot = cache_model(wrong, blob_names={"model.safetensors": blob})
    with pytest.raises(WeightsError, match=r"model\.safetensors: it is a Git LFS pointer"):
        locate_weights(tiny(), offline(policy))
    with pytest.raises(WeightsError, match="Git LFS"):
        find_weights(tiny(), policy)
    with pytest.raises(WeightsError, match="Git LFS"):
        find_weights(tiny(), offline(policy), bad_cache_is_missing=True)
    assert find_weights(tiny(), policy, bad_cache_is_missing=True) is None
    located = locate_weights(tiny(), policy)
    assert (located.path, (snapshot / "model.safetensors").read_bytes()) == (snapshot, WEIGHTS)
    assert hub.fetched == ["model.safetensors"]
    assert any("again" in line for line in said)


def test_other_tools_leave_half_a_model(hub: Hub, policy: WeightsPolicy) -> None:
    """Only a tokenizer, or only weights, were fetched by somebody else: the rest is added."""
    hub.publish(ID)
    cache_model(dict(PROCESSOR))
    assert find_weights(tiny(), policy) is None
    locate_weights(tiny(), policy)
    assert set(hub.fetched) == set(BARE)
    hub.asked.clear()
    hub.publish("any/model")
    cache_model(BARE, hub_id="any/model", ref="main")
    locate_weights(tiny(), policy, tag="any/model")
    assert set(hub.fetched) == set(PROCESSOR)


# What is no model


def broken_folders() -> dict[str, tuple[dict[str, bytes], str]]:
    index = {
        "model.safetensors.index.json": b'{"weight_map": {"a": "model-1.safetensors"}}',
    }
    no_weights = {"config.json": CONFIG, **PROCESSOR}
    return {
        "empty": ({}, r"there is no config\.json in it"),
        "no config": (
            {name: MODEL[name] for name in MODEL if name != "config.json"},
            r"there is no config\.json in it",
        ),
        "no weights": (no_weights, "there are no weights in it"),
        "other weights": ({**no_weights, "tf_model.h5": b"x"}, r"only tf_model\.h5"),
        "lfs pointer": ({**MODEL, "model.safetensors": LFS}, r"model\.safetensors: it is a Git"),
        "lfs config": ({**MODEL, "config.json": LFS}, r"config\.json: it is a Git LFS"),
        "lfs tokenizer": ({**MODEL, "tokenizer.json": LFS}, r"tokenizer\.json: it is a Git LFS"),
        "html": (
            {**no_weights, "pytorch_model.bin": b"<!DOCTYPE html>"},
            r"pytorch_model\.bin: it is a web page",
        ),
        "nothing": ({**MODEL, "model.safetensors": b""}, r"model\.safetensors: it is empty"),
        "cut": (
            {**MODEL, "model.safetensors": WEIGHTS[:1000]},
            r"model\.safetensors: it has 1,000 bytes, and its header says 204,",
        ),
        "cut in its header": (
            {**MODEL, "model.safetensors": WEIGHTS[:20]},
            r"model\.safetensors: it is cut short, or no safetensors file",
        ),
        "another format": (
            {**MODEL, "model.safetensors": (4).to_bytes(8, "little") + b"null"},
            r"model\.safetensors: its header cannot be read",
        ),
        "index of nothing": (
            {**no_weights, "model.safetensors.index.json": b"{}"},
            r"index\.json has no weight_map",
        ),
        "an adapter": ({**MODEL, "adapter_config.json": b"{}"}, "adapter_config.json adds to"),
        "weights of another name": (
            {**MODEL, "config.json": b'{"transformers_weights": "other.safetensors"}'},
            r"config\.json names other files by 'transformers_weights'",
        ),
        "a tokenizer of another name": (
            {**MODEL, "tokenizer_config.json": b'{"fast_tokenizer_files": ["tokenizer.4.json"]}'},
            r"tokenizer_config\.json names other files by 'fast_tokenizer_files'",
        ),
        "no json": ({**MODEL, "config.json": b"{"}, r"config\.json is not JSON"),
        "a list": ({**MODEL, "config.json": b"[]"}, r"config\.json is not a JSON object"),
        "missing shard": (
            {**no_weights, **index},
            r"model-1\.safetensors is missing, which model\.safetensors\.index\.json names",
        ),
        "shard outside": (
            {
                **no_weights,
                "model.safetensors.index.json": b'{"weight_map": {"a": "../x.safetensors"}}',
            },
            r"\.\./x\.safetensors is missing",
        ),
        "lfs index": (
            {**no_weights, "model.safetensors.index.json": LFS},
            r"index\.json: it is a Git LFS",
        ),
    }


@pytest.mark.parametrize("kind", broken_folders())
def test_a_folder_that_is_no_model_names_the_file(
    hub: Hub, policy: WeightsPolicy, tmp_path: Path, kind: str
) -> None:
    files, says = broken_folders()[kind]
    folder = write(tmp_path / "W" / "tiny-base", files)
    for asked, tag in (
        (replace(policy, weights_dir=tmp_path / "W"), None),
        (replace(policy, custom={"tiny": folder}), None),
        (policy, str(folder)),
    ):
        with pytest.raises(WeightsError, match=says) as caught:
            locate_weights(tiny(), asked, tag=tag)
        assert not isinstance(caught.value, MissingWeightsError)
        assert str(folder) in caught.value.message
    assert hub.asked == []
    assert sorted(path.name for path in folder.iterdir()) == sorted(files)


def test_link_to_nothing_in_a_folder_is_not_passed_over(
    hub: Hub, policy: WeightsPolicy, tmp_path: Path
) -> None:
    """transformers would take the older file, and nobody would know."""
    folder = write(tmp_path / "own", {**MODEL, "pytorch_model.bin": b"older"})
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("gone")
    with pytest.raises(WeightsError, match=r"model\.safetensors is a link to nothing"):
        locate_weights(tiny(), policy, tag=str(folder))
    assert weights_status(tiny(), policy, tag=str(folder)) == "missing"


def test_named_place_that_is_no_folder(hub: Hub, policy: WeightsPolicy, tmp_path: Path) -> None:
    file = write(tmp_path, {"model.safetensors": WEIGHTS}) / "model.safetensors"
    for place, says in ((file, "it is a file"), (tmp_path / "no", "no such folder")):
        named = replace(policy, custom={"tiny": place})
        with pytest.raises(WeightsError, match=says) as caught:
            locate_weights(tiny(), named)
        assert f"--model tiny={place}" in caught.value.message
        assert weights_status(tiny(), named) == "missing"
    assert hub.asked == []


def test_folder_without_tokenizer_says_which_files_to_copy(
    hub: Hub, policy: WeightsPolicy, tmp_path: Path
) -> None:
    folder = write(tmp_path / "own", BARE)
    with pytest.raises(WeightsError, match="there is no tokenizer in it") as caught:
        locate_weights(tiny(), replace(policy, custom={"tiny": folder}))
    assert "Copy tokenizer.json" in str(caught.value.hint)
    assert weights_status(tiny(), replace(policy, custom={"tiny": folder})) == "missing"


# One digest


def test_digest_is_the_same_wherever_the_files_lie(
    hub: Hub, policy: WeightsPolicy, tmp_path: Path
) -> None:
    hub.publish(ID, {**MODEL, **UNREAD})
    fetched = locate_weights(tiny(), policy)
    digests = {fetched.sha256}
    elsewhere = write(tmp_path / "elsewhere", {**MODEL, "README.md": b"other words"})
    digests.add(locate_weights(tiny(), policy, tag=str(elsewhere)).sha256)
    digests.add(locate_weights(tiny(), replace(policy, custom={"tiny": elsewhere})).sha256)
    write(tmp_path / "W" / "tiny-base")
    digests.add(locate_weights(tiny(), replace(policy, weights_dir=tmp_path / "W")).sha256)
    assert len(digests) == 1
    assert len(fetched.sha256) == 64
    assert located_bytes(fetched) == sum(map(len, MODEL.values()))


def test_every_file_that_decides_a_number_is_in_the_digest(
    hub: Hub, policy: WeightsPolicy, tmp_path: Path
) -> None:
    digests = set()
    for changed in (None, *MODEL):
        files = dict(MODEL)
        if changed == "model.safetensors":
            files[changed] = safetensors_of(b"other weights")
        elif changed:
            files[changed] += b" "
        folder = write(tmp_path / f"with another {changed}", files)
        digests.add(locate_weights(tiny(), policy, tag=str(folder)).sha256)
    assert len(digests) == len(MODEL) + 1


def test_card_that_knows_the_digest(hub: Hub, policy: WeightsPolicy, tmp_path: Path) -> None:
    cache_model()
    digest = locate_weights(tiny(), policy).sha256
    assert not locate_weights(tiny(), policy).verified
    assert locate_weights(tiny(sha256=digest), policy).verified
    with pytest.raises(WeightsError, match=f"{digest}, the card says 00000000"):
        locate_weights(tiny(sha256="00000000"), policy)
    own = replace(policy, custom={"tiny": write(tmp_path / "own")})
    same = locate_weights(tiny(sha256=digest), own)
    assert (same.verified, same.origin, same.licence) == (True, "custom", "card's MIT")
    other = locate_weights(tiny(sha256="00000000"), own)
    assert (other.verified, other.licence) == (False, "unknown")


def test_big_files_are_hashed_once(
    hub: Hub, policy: WeightsPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_model()
    monkeypatch.setattr(check_module, "MEMO_FROM_BYTES", 1000)
    reads: list[str] = []
    real = check_module._read_sha256
    monkeypatch.setattr(
        check_module, "_read_sha256", lambda path: reads.append(path.name) or real(path)
    )
    for _ in range(2):
        find_weights(tiny(), policy)
    assert sum("safetensors" in name for name in reads) == 1
    find_weights(tiny(), policy, rehash=True)
    assert sum("safetensors" in name for name in reads) == 2


# Tokenizer and image processor from another place


@pytest.fixture
def apart() -> NetworkCard:
    """A model that is published without tokenizer and image processor, which are another's."""
    return tiny(processor_hub_id="parent/model", processor_hub_revision=OTHER_COMMIT)


def publish_apart(hub: Hub) -> None:
    hub.publish(ID, {**BARE, **UNREAD})
    hub.publish("parent/model", commit=OTHER_COMMIT, licence="parent's")


def test_processor_is_fetched_from_its_own_repository(
    hub: Hub, policy: WeightsPolicy, said: list[str], apart: NetworkCard
) -> None:
    publish_apart(hub)
    located = locate_weights(apart, policy)
    assert located.path.name == COMMIT
    assert located.processor is not None
    assert located.processor.name == OTHER_COMMIT
    assert set(hub.fetched) == {*BARE, "config.json", *PROCESSOR}
    assert hub.fetched.count("model.safetensors") == 1, "no weights of the parent's"
    text = "\n".join(said)
    assert f"parent/model at {OTHER_COMMIT}, 4 files" in text
    assert "licence parent's" in text
    assert locate_weights(apart, offline(policy)) == located
    assert weights_status(apart, policy) == "here"


def test_processor_from_elsewhere_has_the_digest_of_one_folder(
    hub: Hub, policy: WeightsPolicy, tmp_path: Path, apart: NetworkCard
) -> None:
    publish_apart(hub)
    digest = locate_weights(apart, policy).sha256
    together = write(tmp_path / "together")
    located = locate_weights(apart, policy, tag=str(together))
    assert (located.sha256, located.processor) == (digest, None)


def test_processor_in_the_weights_folder(
    hub: Hub, policy: WeightsPolicy, tmp_path: Path, apart: NetworkCard
) -> None:
    write(tmp_path / "tiny-base", BARE)
    policy = offline(replace(policy, weights_dir=tmp_path))
    error = error_of(apart, policy)
    assert "tokenizer and image processor of tiny (base) are missing" in error.message
    assert f"parent/model at revision {OTHER_COMMIT}" in error.message
    assert f"Put it as {tmp_path / 'model'}" in str(error.hint)
    assert weights_status(apart, policy) == "missing"
    assert weights_status(apart, replace(policy, offline=False)) == "to fetch"
    in_cache_layout = cache_model(hub_id="parent/model", commit=OTHER_COMMIT, cache=tmp_path)
    assert locate_weights(apart, policy).processor == in_cache_layout
    by_owner = write(tmp_path / "parent" / "model", PROCESSOR)
    assert locate_weights(apart, policy).processor == by_owner
    by_name = write(tmp_path / "model", PROCESSOR)
    assert locate_weights(apart, policy).processor == by_name
    assert weights_status(apart, policy) == "here"
    (by_name / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsError, match="there is no image processor in it"):
        locate_weights(apart, policy)
    assert hub.asked == []


def test_processor_of_a_model_that_was_made_from_the_cards(
    hub: Hub, policy: WeightsPolicy, tmp_path: Path, said: list[str], apart: NetworkCard
) -> None:
    """Nothing is taken from another model in silence."""
    publish_apart(hub)
    own = write(tmp_path / "own", BARE)
    located = locate_weights(apart, policy, tag=str(own))
    assert located.processor is not None
    assert located.processor.name == OTHER_COMMIT
    taken = f"those of parent/model at revision {OTHER_COMMIT} are taken"
    assert any(taken in line for line in said)


def test_own_processor_comes_before_the_cards(
    hub: Hub, policy: WeightsPolicy, apart: NetworkCard
) -> None:
    hub.publish("any/model")
    located = locate_weights(apart, policy, tag="any/model")
    assert located.processor is None
    assert set(hub.fetched) == set(MODEL)


# Status, and what it costs


def test_status(hub: Hub, policy: WeightsPolicy, tmp_path: Path) -> None:
    assert weights_status(tiny(), policy) == "to fetch"
    assert weights_status(tiny(), offline(policy)) == "missing"
    cache_model()
    assert weights_status(tiny(), offline(policy)) == "here"
    (tmp_path / "tiny-base").mkdir()
    assert weights_status(tiny(), offline(replace(policy, weights_dir=tmp_path))) == "missing"
    assert weights_status(tiny(), policy, tag="any/model") == "to fetch"
    assert hub.asked == []


def test_status_imports_nothing_heavy(hub: Hub) -> None:
    code = (
        "import sys; from aigve_cli.weights import network_card, weights_policy, weights_status;"
        "print(weights_status(network_card('pickscore'), weights_policy()));"
        "heavy = {'torch', 'transformers', 'huggingface_hub', 'numpy', 'requests', 'filelock'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=process_environment()
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "to fetch\n", "")
    assert hub.asked == []


# As processes

CLIP = network_card("clip").entry()
TOKEN = "hf_" + "s" * 34


@pytest.fixture
def published_clip(hub: Hub) -> Hub:
    hub.publish(CLIP.hub_id, {**MODEL, **UNREAD}, commit=CLIP.hub_revision)
    return hub


def test_commands(published_clip: Hub, aigve: Callable[..., Done]) -> None:
    env = {"HF_TOKEN": TOKEN}
    listed = json.loads(aigve("models", "list", "--format", "json", env=env).stdout)
    row = next(row for row in listed if row["name"] == "clip")
    assert (row["status"], row["verified"]) == ("missing", None)
    missing = aigve("models", "path", "clip", env=env)
    assert missing.code == 4
    assert published_clip.asked == []

    # It warns of this as soon as it is imported.
    fetched = aigve("models", "fetch", "clip", env={**env, "HF_HUB_ENABLE_HF_TRANSFER": "1"})
    assert fetched.code == 0
    folder = Path(fetched.stdout.strip())
    assert folder.name == CLIP.hub_revision
    size = sum(map(len, MODEL.values()))
    assert fetched.stderr.splitlines() == [
        f"The weights of clip (vit-base-patch32) are not here: {CLIP.hub_id} at "
        f"{CLIP.hub_revision}, 5 files, {size / 1e6:.1f} MB, licence mit.",
        f"Fetching from {published_clip.url} into {hub_cache()}",
        f"{CLIP.hub_id}@{CLIP.hub_revision} is not verified: its card knows no hash.",
    ]
    asked = len(published_clip.asked)
    assert aigve("models", "path", "clip", env=env).stdout == f"{folder}\n"
    verified = json.loads(aigve("models", "verify", "clip", "--format", "json", env=env).stdout)
    assert (verified[0]["status"], verified[0]["bytes"]) == ("here", size)
    assert len(published_clip.asked) == asked
    doctor = json.loads(aigve("doctor", "--format", "json", env=env).stdout)
    clip = next(row for row in doctor if row["check"] == "weights clip")
    assert clip["status"] == "ok"
    assert str(folder) in clip["found"]


def test_verify_of_a_broken_folder(
    published_clip: Hub, aigve: Callable[..., Done], tmp_path: Path
) -> None:
    write(tmp_path / CLIP.file, {**MODEL, "model.safetensors": LFS})
    done = aigve("models", "verify", "clip", "--weights-dir", tmp_path)
    assert done.code == 4
    assert "model.safetensors: it is a Git LFS pointer" in done.stderr
    assert "bad" in done.stdout


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_refusals_are_short_and_show_no_token(
    published_clip: Hub, aigve: Callable[..., Done], status: int
) -> None:
    published_clip.models[CLIP.hub_id].refused = status
    env = {"HF_TOKEN": TOKEN, "HF_HUB_VERBOSITY": "debug"}
    done = aigve("models", "fetch", "clip", env=env)
    assert done.code == 4
    assert done.stdout == ""
    assert done.stderr.startswith("Error: The weights of clip (vit-base-patch32) could not be")
    assert f"HTTP {status}" in done.stderr
    assert TOKEN not in done.stderr


def test_any_model_by_its_id(published_clip: Hub, aigve: Callable[..., Done]) -> None:
    published_clip.publish("any/model", commit=OTHER_COMMIT)
    done = aigve("models", "fetch", "clip", "--tag", "any/model")
    assert done.code == 0
    assert Path(done.stdout.strip()).name == OTHER_COMMIT
    assert aigve("models", "path", "clip", "--tag", "any/model").stdout == done.stdout


def test_two_processes_fetch_once(published_clip: Hub) -> None:
    import threading

    hub = published_clip
    hub.hold = threading.Event()
    command = [sys.executable, "-c", "from aigve_cli.main import run; run()"]
    processes: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*command, "models", "fetch", "clip"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=process_environment(),
        )
        processes.append(process)
        return process

    try:
        first = start()
        assert hub.holding.wait(60)
        second = start()
        assert second.stderr is not None
        assert "Another process is fetching" in second.stderr.readline()
        hub.hold.set()
        outputs = [process.communicate(timeout=60) for process in (first, second)]
    finally:
        hub.hold.set()
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0][0] == outputs[1][0] != ""
    assert sorted(hub.fetched) == sorted(MODEL)


def test_every_error_is_for_people(hub: Hub, policy: WeightsPolicy) -> None:
    """An id that huggingface_hub itself refuses."""
    with pytest.raises(AigveError, match="cannot be an id on the Hugging Face Hub"):
        locate_weights(tiny(), policy, tag="some--one/.tiny")
    assert hub.asked == []
