"""Judges over the wire: ``transformers serve``, which others wrote, with a tiny Qwen2.5-VL.

Its answers are those of the same folder in this process, so what was sent is what was meant: every
picture, in true colour, in order, with the texts around it.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import transformers
from aigve_models import chat_vlm
from aigve_models.chat_vlm import ChatModel, Turn
from PIL import Image
from transformers.cli.serve import Serve

from aigve_cli.judges.backend import Call, Message, Picture, Reply, UnreachableError
from aigve_cli.judges.openai_endpoint import OpenAIEndpoint
from aigve_cli.judges.show import Shown, picture_to_jpeg, shown_to_parts
from aigve_cli.main import main
from tests.conftest import read_results
from tests.networks.chat_models import write_qwen2_5_vl

SECONDS_TO_START = 120
"""It takes about 5 on two cores; a machine that is busy is waited for."""
TOKENS = 24
"""Enough for answers about other pictures to part: the model means nothing by them."""
SYSTEM = Message("system", ("Be brief.",))
COLOURS = [
    *((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)),
    *((0, 255, 255), (255, 0, 255), (250, 250, 250), (10, 10, 10)),
]


@dataclass(frozen=True)
class Server:
    """A server that is running, and its model in this process."""

    url: str
    folder: Path
    network: ChatModel

    def ask(self, *calls: Call) -> list[Reply]:
        async def talk() -> list[Reply]:
            endpoint = OpenAIEndpoint(str(self.folder), self.url)
            try:
                return list(await asyncio.gather(*map(endpoint.reply, calls)))
            finally:
                await endpoint.close()

        return asyncio.run(talk())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    base = tmp_path_factory.mktemp("server")
    folder = write_qwen2_5_vl(base / "tiny")
    (base / "home" / "hub").mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    model = [str(folder)] if _is_recent() else ["--force-model", str(folder)]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", *model]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "HF_HOME": str(base / "home"),
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "200",
            "NO_COLOR": "1",
        },
    )
    watchdog = threading.Timer(SECONDS_TO_START, process.kill)
    watchdog.start()
    assert process.stdout is not None
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if "Uvicorn running on" in line:
                break
        else:
            pytest.fail(f"transformers serve has ended:\n{''.join(said[-30:])}")
        watchdog.cancel()
        # What it goes on to say must not fill the pipe.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield Server(f"http://127.0.0.1:{port}/v1", folder, chat_vlm.load(folder, folder))
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()


def _is_recent() -> bool:
    """Whether the server is the one that takes the model as an argument, not as an option."""
    parameters = inspect.signature(Serve.__init__).parameters
    return list(parameters)[1] == "force_model"


def patterns() -> list[np.ndarray]:
    """Eight frames, each of another colour with a corner of the one after it."""
    frames = []
    for place, colour in enumerate(COLOURS):
        frame = np.full((56, 84, 3), colour, np.uint8)
        frame[:20, :30] = COLOURS[(place + 1) % 8]
        frames.append(frame)
    return frames


def call_about(frames: Sequence[np.ndarray], *, how: str = "multi") -> Call:
    parts = shown_to_parts(Shown(tuple(frames), tuple(range(0, 3 * len(frames), 3)), 8.0), how)
    question = Message("user", (*parts, 'Is a "cat" | dog to be seen?\nSay <yes> or no: {}'))
    return Call((SYSTEM, question), max_tokens=TOKENS)


def said_here(server: Server, call: Call) -> chat_vlm.Said:
    """The answer of the same model to the same messages, with pictures as they travel."""

    def to_part(part: object) -> str | Image.Image:
        if isinstance(part, Picture):
            return Image.open(BytesIO(picture_to_jpeg(part.pixels)))
        assert isinstance(part, str)
        return part

    turns = [Turn(turn.role, tuple(map(to_part, turn.parts))) for turn in call.messages]
    return server.network.answer(turns, max_tokens=call.max_tokens)


@pytest.mark.parametrize("how", ["multi", "grid"])
def test_eight_frames_are_answered_as_by_the_model_itself(server: Server, how: str) -> None:
    call = call_about(patterns(), how=how)
    (reply,) = server.ask(call)
    here = said_here(server, call)
    assert reply.text == here.text != ""
    if _is_recent():
        # Earlier releases count nothing.
        assert (reply.tokens_read, reply.tokens_written) == (here.tokens_read, TOKENS)
        assert reply.finish == "length"


def test_colours_and_order_decide_what_is_answered(server: Server) -> None:
    frames = patterns()
    blue = [np.ascontiguousarray(frame[:, :, ::-1]) for frame in frames]
    shown = [
        *(frames, blue, frames[::-1], frames[:7]),
        [frames[1], frames[0], *frames[2:]],
        [blue[0], *frames[1:]],
    ]
    calls = [call_about(some) for some in shown]
    replies = [server.ask(call)[0] for call in calls]
    assert [reply.text for reply in replies] == [said_here(server, call).text for call in calls]
    assert len({reply.text for reply in replies}) == len(shown)


def test_questions_at_the_same_time_are_answered_as_if_alone(server: Server) -> None:
    if not _is_recent():
        pytest.skip(f"transformers {transformers.__version__} mixes up what is asked at once")
    frames = patterns()
    calls = [call_about(frames[first:]) for first in range(8)] * 2
    replies = server.ask(*calls)
    assert [reply.text for reply in replies] == [said_here(server, call).text for call in calls]


def test_a_schema_and_probabilities_that_a_server_passes_over(server: Server) -> None:
    """It takes both parameters, and does as if they were not there."""
    plain = call_about(patterns()[:1])
    schema = {
        "type": "object",
        "properties": {"score": {"type": "integer"}},
        "required": ["score"],
        "additionalProperties": False,
    }
    wanted = Call(plain.messages, schema=schema, first_token=True, max_tokens=TOKENS)
    free, held = server.ask(plain, wanted)
    assert held.text == free.text
    assert held.first_token is None


def test_a_conversation_that_goes_on(server: Server) -> None:
    call = call_about(patterns()[:3])
    again = (Message("assistant", ("purple",)), Message("user", ("Say it as JSON.",)))
    longer = Call((*call.messages, *again), max_tokens=TOKENS)
    (reply,) = server.ask(longer)
    assert reply.text == said_here(server, longer).text


def test_another_model_s_name_is_refused(server: Server) -> None:
    if not _is_recent():
        pytest.skip(f"transformers {transformers.__version__} answers to any name")

    async def talk() -> None:
        endpoint = OpenAIEndpoint("other", server.url)
        try:
            await endpoint.reply(call_about(patterns()[:1]))
        finally:
            await endpoint.close()

    with pytest.raises(UnreachableError, match=r"no model .other.*Server is pinned to"):
        asyncio.run(talk())


def test_the_command_line_asks_it_about_a_real_clip(
    server: Server, media: Path, tmp_path: Path
) -> None:
    """Made-up weights say yes, or what nobody can read; either way it is asked for once."""
    videos = tmp_path / "videos"
    videos.mkdir()
    shutil.copy(min((media / "lavie").glob("*.mp4")), videos / "a.mp4")
    question = {"id": 1, "question": "Is there a beach?", "parents": [], "tuple": "entity (beach)"}
    sets = [{"caption": "a beach", "questions": [question]}]
    questions = tmp_path / "questions.json"
    ours = {"aigve": "questions", "schema": 1, "metric": "dsg", "sets": sets}
    questions.write_text(json.dumps(ours))
    found = []
    for out in (tmp_path / "first", tmp_path / "second"):
        code = main(
            [
                *("compute", "--input-dir", str(videos), "--prompt", "a beach", "--use-cpu"),
                *("--metrics", "dsg", "--set", f"dsg.questions={questions}"),
                *("--set", "dsg.size=112", "--judge", f"openai:{server.folder}"),
                *("--judge-url", server.url, "--judge-cache", str(tmp_path / "answers")),
                *("--output-dir", str(out)),
            ]
        )
        document = read_results(out)
        (score,) = (entry["scores"]["dsg"] for entry in document["videos"])
        (question,) = score["details"]["questions"]
        # Read, or asked three times and kept as it was said.
        assert code == (question["answered"] is None)
        assert question["answered"] in ("yes", "no") or question["said"]
        found.append((document["counts"]["judge"], score))
    (first, score), (second, again) = found
    assert first["requests"] == (1 if score["values"] else 3)
    assert first["images"] == 8 * first["requests"]
    assert (second["requests"], second["cached"]) == (0, first["requests"])
    assert again == score
