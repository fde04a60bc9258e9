"""The client of OpenAI-compatible servers: what it sends, what it makes of replies and faults."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import threading
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from aigve_cli.errors import UsageError
from aigve_cli.judges.backend import (
    Call,
    Clip,
    Message,
    NoReplyError,
    Picture,
    Reply,
    UnreachableError,
)
from aigve_cli.judges.openai_endpoint import OpenAIEndpoint, endpoint_key
from tests.judges.desk_kit import (
    KEY,
    SCHEMA,
    WAIT,
    flat_picture,
    quick_endpoint,
    replies,
    reply_to,
    text_call,
)
from tests.judges.scripted_endpoint import (
    BreakOff,
    Request,
    Said,
    Told,
    at_once,
    completion,
    data_of,
    pictures_of,
    question_of,
    refused,
    scripted_endpoint,
)


@pytest.fixture(autouse=True)
def _no_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_CUSTOM_HEADERS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def in_turn(*told: Told) -> Callable[[Request], Told]:
    """A script that says these things one after another, and then fails."""
    left = iter(told)
    lock = threading.Lock()

    def answer(_: Request) -> Told:
        with lock:
            return next(left)

    return answer


def closed_port() -> int:
    """A port of this machine where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


# --- what is sent -----------------------------------------------------------------------------


def test_a_question_is_sent_as_the_protocol_says() -> None:
    call = Call(
        (Message("system", ("be brief",)), Message("user", ("how", "good?"))),
        schema=SCHEMA,
        first_token=True,
        max_tokens=77,
    )
    with scripted_endpoint("4") as server:
        reply = reply_to(quick_endpoint(server.url), call)
    assert reply == Reply(
        "4", tokens_read=11, tokens_written=3, asked={"format": "schema", "without": []}
    )
    (request,) = server.requests
    assert request == {
        "model": "scripted",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "how\n\ngood?"},
        ],
        "temperature": 0,
        "seed": 0,
        "max_tokens": 77,
        "logprobs": True,
        "top_logprobs": 20,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA},
        },
    }


def test_pictures_arrive_in_true_colour_in_order_and_all_of_them() -> None:
    colours = [(250, 5, 5), (5, 250, 5), (5, 5, 250), (250, 250, 5), (5, 250, 250), (90, 40, 10)]
    parts = tuple(
        part
        for place, colour in enumerate(colours)
        for part in (f"frame {place}", flat_picture(colour, 24 + place, 40))
    )
    with scripted_endpoint("ok") as server:
        reply_to(quick_endpoint(server.url), Call((Message("user", (*parts, "and?")),)))
    (request,) = server.requests
    content = request["messages"][0]["content"]
    assert [part["type"] for part in content] == ["text", "image_url"] * 6 + ["text"]
    assert [part["text"] for part in content[::2]] == [f"frame {n}" for n in range(6)] + ["and?"]
    pictures = pictures_of(request)
    assert [picture.shape for picture in pictures] == [(24 + n, 40, 3) for n in range(6)]
    # JPEG of one colour is off by rounding in YCbCr alone.
    for picture, colour in zip(pictures, colours, strict=True):
        assert np.abs(picture.astype(int) - colour).max() <= 2


def test_a_picture_is_encoded_once_for_all_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    from aigve_cli.judges import openai_endpoint

    encoded = []
    real = openai_endpoint.picture_to_jpeg

    def counted(pixels: Any) -> bytes:
        encoded.append(pixels)
        return real(pixels)

    monkeypatch.setattr(openai_endpoint, "picture_to_jpeg", counted)
    pictures = [flat_picture((9, 9, 9)), flat_picture((200, 9, 9))]
    calls = [Call((Message("user", (*pictures, f"question {n}")),)) for n in range(5)]
    with scripted_endpoint("ok") as server:
        replies(quick_endpoint(server.url), *calls)
    assert server.count == 5
    assert all(len(pictures_of(request)) == 2 for request in server.requests)
    assert len(encoded) == 2


def test_a_clip_is_sent_as_a_video() -> None:
    frames = tuple(np.full((32, 48, 3), 40 * n, np.uint8) for n in range(4))
    with scripted_endpoint("ok") as server:
        reply_to(quick_endpoint(server.url), Call((Message("user", (Clip(frames, 4.0), "and?")),)))
    video = server.requests[0]["messages"][0]["content"][0]
    assert video["type"] == "video_url"
    assert video["video_url"]["url"].startswith("data:video/mp4;base64,")
    assert data_of(video["video_url"]["url"])[4:8] == b"ftyp"


def test_half_a_surrogate_pair_does_not_stop_a_request() -> None:
    with scripted_endpoint("ok") as server:
        assert reply_to(quick_endpoint(server.url), text_call("a \ud83d b")).text == "ok"
    assert question_of(server.requests[0]) == "a \ufffd b"


def test_openai_is_given_its_own_name_for_the_limit() -> None:
    from aigve_cli.judges.manners import Manner

    endpoint = OpenAIEndpoint("gpt", None, KEY)
    assert endpoint._manner == Manner(limit="max_completion_tokens")
    assert quick_endpoint("http://127.0.0.1:1/v1")._manner == Manner(limit="max_tokens")


# --- keys -------------------------------------------------------------------------------------


def test_a_key_belongs_to_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert endpoint_key(None) is None
    assert endpoint_key("http://127.0.0.1:1/v1") is None
    monkeypatch.setenv("OPENAI_API_KEY", " of-openai\n")
    assert endpoint_key(None) == "of-openai"
    assert endpoint_key("https://api.openai.com/v1") is None
    assert endpoint_key("http://127.0.0.1:1/v1") is None
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    assert endpoint_key(None) == "of-openai"
    monkeypatch.setenv("AIGVE_JUDGE_KEY", "of-the-judge")
    assert endpoint_key("http://127.0.0.1:1/v1") == "of-the-judge"
    assert endpoint_key(None) == "of-openai"


def test_nothing_that_belongs_to_openai_reaches_another_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-of-openai")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "secret-of-admin")
    monkeypatch.setenv("OPENAI_ORG_ID", "secret-organisation")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "secret-project")
    custom = "X-Custom: secret-header\nAuthorization: Bearer secret-custom"
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", custom)
    with scripted_endpoint("ok") as server:
        url = server.url
        reply_to(OpenAIEndpoint("m", url, endpoint_key(url)), text_call())
        monkeypatch.setenv("AIGVE_JUDGE_KEY", KEY)
        reply_to(OpenAIEndpoint("m", url, endpoint_key(url)), text_call())
    without, with_key = server.headers
    assert "secret" not in json.dumps(server.headers)
    assert without["authorization"] == "Bearer none"
    assert with_key["authorization"] == f"Bearer {KEY}"


def test_openais_own_variables_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted_endpoint("ok") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        endpoint = OpenAIEndpoint("m", None, endpoint_key(None))
        assert reply_to(endpoint, text_call()).text == "ok"
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert endpoint.identity["host"] == server.url.split("/")[2]


@pytest.mark.parametrize(
    ("url", "variable"),
    [(None, "OPENAI_API_KEY"), ("https://api.openai.com/v1", "AIGVE_JUDGE_KEY")],
)
def test_openai_without_a_key_is_never_asked(url: str | None, variable: str) -> None:
    endpoint = OpenAIEndpoint("gpt", url, endpoint_key(url))
    with pytest.raises(UnreachableError, match=f"{variable} is not set"):
        reply_to(endpoint, text_call())


def test_a_key_that_cannot_be_sent_is_not_shown() -> None:
    endpoint = OpenAIEndpoint("m", "http://127.0.0.1:1/v1", "sécret-\u201ckey\u201d")
    with pytest.raises(UnreachableError, match="AIGVE_JUDGE_KEY holds characters") as caught:
        reply_to(endpoint, text_call())
    assert "cret" not in "".join(traceback.format_exception(caught.value)).split("Error:")[-1]


def test_identity_names_model_and_host_and_no_secret() -> None:
    endpoint = OpenAIEndpoint("a/b", "https://models.example/v1", KEY)
    expected = {"backend": "openai", "model": "a/b", "host": "models.example:443"}
    assert endpoint.identity == expected
    assert OpenAIEndpoint("m", "http://[::1]/v1").identity["host"] == "[::1]:80"
    assert OpenAIEndpoint("m", None, KEY).identity["host"] == "api.openai.com:443"
    assert KEY not in repr(endpoint) + repr(endpoint.identity)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000/v1",
        "localhost",
        "ftp://a/v1",
        "http://",
        "http://a:99999/v1",
        "http://a:b/v1",
        "http://a b/v1",
        "http://a/v1\n",
        "http://a/v1?api-version=1",
        "http://a/v1#x",
        "http://me:geheim@a/v1",
        "http://geheim@a/v1",
    ],
)
def test_an_address_that_cannot_be_one_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"http://127\.0\.0\.1:8000/v1") as caught:
        OpenAIEndpoint("m", url, KEY)
    assert "geheim" not in f"{caught.value.message}{caught.value.hint}"


# --- faults -----------------------------------------------------------------------------------


def test_a_closed_port_at_first_contact_ends_everything() -> None:
    url = f"http://127.0.0.1:{closed_port()}/v1"
    with pytest.raises(UnreachableError, match="No judge answers at") as caught:
        reply_to(quick_endpoint(url, max_retries=0), text_call())
    assert url in caught.value.message
    assert "Is the server running?" in str(caught.value.hint)
    assert "--judge-url" in str(caught.value.hint)


def test_a_server_that_goes_away_ends_everything_at_the_third_failure() -> None:
    async def ask() -> list[Any]:
        said = [await endpoint.reply(text_call())]
        stop.set()
        gone.wait(WAIT)
        for _ in range(3):
            said += await asyncio.gather(endpoint.reply(text_call()), return_exceptions=True)
        await endpoint.close()
        return said

    stop, gone, ready = threading.Event(), threading.Event(), threading.Event()
    urls: list[str] = []

    def serve() -> None:
        with scripted_endpoint("ok") as server:
            urls.append(server.url)
            ready.set()
            stop.wait(WAIT)
        gone.set()

    serving = threading.Thread(target=serve)
    serving.start()
    assert ready.wait(WAIT)
    endpoint = quick_endpoint(urls[0], max_retries=0)
    first, second, third, fourth = asyncio.run(ask())
    serving.join(WAIT)
    assert first.text == "ok"
    assert isinstance(second, NoReplyError)
    assert isinstance(third, NoReplyError)
    assert isinstance(fourth, UnreachableError)
    assert "All answers so far are kept" in str(fourth.hint)


def test_failures_between_successes_never_end_everything() -> None:
    off = BreakOff()
    with scripted_endpoint(in_turn("1", off, off, "2", off, off, "3")) as server:
        endpoint = quick_endpoint(server.url, max_retries=0)
        said = replies(endpoint, *[text_call()] * 7, together=False)
    assert [type(one) for one in said] == [
        *(Reply, NoReplyError, NoReplyError),
        *(Reply, NoReplyError, NoReplyError, Reply),
    ]


def test_a_reset_connection_and_a_broken_body_are_tried_again() -> None:
    script = in_turn(BreakOff(), BreakOff(after=30), "3")
    with scripted_endpoint(script) as server:
        assert reply_to(quick_endpoint(server.url), text_call()).text == "3"
    assert server.count == 3


def test_waiting_times_of_the_server_are_kept_to() -> None:
    busy = (429, {"retry-after": "0.05"}, {"error": {"message": "slow down"}})
    busy_ms = (429, {"retry-after-ms": "20"}, {"error": {"message": "slow down"}})
    with scripted_endpoint(in_turn(busy, busy_ms, "3")) as server:
        assert reply_to(quick_endpoint(server.url), text_call()).text == "3"
    assert server.count == 3


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_fault_is_tried_again(status: int) -> None:
    fault = at_once(status, "in a moment")
    with scripted_endpoint(in_turn(fault, fault, "3")) as server:
        assert reply_to(quick_endpoint(server.url), text_call()).text == "3"
    assert server.count == 3


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_lasting_fault_costs_one_request(status: int) -> None:
    with scripted_endpoint(lambda _: at_once(status, "not\ntoday " + "x" * 900)) as server:
        with pytest.raises(NoReplyError, match=rf"answers {status}: not today x+…$") as caught:
            reply_to(quick_endpoint(server.url), text_call())
        assert server.count == 3  # the first and two more
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    "told",
    [
        refused(429, "You exceeded your quota", code="insufficient_quota"),
        refused(429, "You exceeded your quota", type="insufficient_quota"),
        refused(402, "Insufficient balance"),
        refused(400, "Billing hard limit", code="billing_hard_limit_reached"),
    ],
)
def test_no_credit_ends_everything_without_waiting(told: Told) -> None:
    with scripted_endpoint(lambda _: told) as server:
        with pytest.raises(UnreachableError, match="No credit is left"):
            reply_to(quick_endpoint(server.url), text_call())
        assert server.count == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_named_by_its_variable(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted_endpoint(lambda _: refused(status, f"bad key {KEY}")) as server:
        with pytest.raises(UnreachableError, match="AIGVE_JUDGE_KEY is refused") as caught:
            reply_to(quick_endpoint(server.url), text_call())
        assert "bad key ***" in caught.value.message
        with pytest.raises(UnreachableError, match="AIGVE_JUDGE_KEY is not set"):
            reply_to(quick_endpoint(server.url, None), text_call())
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        with pytest.raises(UnreachableError, match="OPENAI_API_KEY is refused"):
            reply_to(OpenAIEndpoint("m", None, KEY), text_call())


@pytest.mark.parametrize(
    ("listed", "hint"),
    [
        (["Scripted-2B", "other"], "Did you mean Scripted-2B?"),
        (["qwen", "llava"], "It offers qwen, llava."),
        (None, "does the address end as it should"),
    ],
)
def test_an_unknown_model_is_named_with_the_nearest(listed: list[str] | None, hint: str) -> None:
    told = refused(404, "The model does not exist", code="model_not_found")
    with scripted_endpoint(lambda _: told) as server:
        server.models = listed
        with pytest.raises(UnreachableError, match="no model 'scripted'") as caught:
            reply_to(quick_endpoint(server.url), text_call())
    assert hint in str(caught.value.hint)


def test_a_wrong_path_is_explained() -> None:
    with scripted_endpoint("ok") as server:
        endpoint = quick_endpoint(server.url.removesuffix("/v1"))
        with pytest.raises(UnreachableError, match="no such path") as caught:
            reply_to(endpoint, text_call())
    assert "/v1" in str(caught.value.hint)


def test_a_slow_answer_is_given_up() -> None:
    goes_on = threading.Event()

    def answer(_: Request) -> Told:
        goes_on.wait(WAIT)
        return "late"

    with scripted_endpoint(answer) as server:
        endpoint = quick_endpoint(server.url, max_retries=0, read_seconds=0.1)
        with pytest.raises(NoReplyError, match=r"has not answered within 0\.1 s"):
            reply_to(endpoint, text_call())
        goes_on.set()


HTML = "<html><body>Bad gateway, please\nlog in</body></html>"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (HTML, "sends no JSON: <html><body>Bad gateway, please log in"),
        ("", "sends no JSON: nothing"),
        (b"\xff\xfe\x00", "sends no JSON"),
        ("[" * 100_000, "sends no JSON"),
        ({"error": {"message": "model is loading"}}, "sends no answer: model is loading"),
        ({"error": "out of memory"}, "sends no answer: out of memory"),
        ({"choices": []}, "sends no answer"),
        ({"choices": None}, "sends no answer"),
        ({"choices": [{"message": None}]}, "sends no answer"),
        ('"hello"', "sends no answer"),
        ("[1]", "sends no answer"),
        ("null", "sends no answer"),
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "text/html"])
def test_what_is_no_answer_costs_one_request(body: Any, words: str, kind: str) -> None:
    with scripted_endpoint(lambda _: (200, {"Content-Type": kind}, body)) as server:
        with pytest.raises(NoReplyError) as caught:
            reply_to(quick_endpoint(server.url), text_call())
        assert server.count == 1
    assert words in caught.value.message
    assert "\n" not in caught.value.message


def test_the_key_is_in_no_error_and_no_answer() -> None:
    scripts: list[Told] = [
        at_once(500, f"crashed with {KEY} and {KEY}"),
        refused(400, "x" * 290 + KEY),
        (200, {}, f"<html>{KEY}"),
        (200, {}, {"error": KEY}),
        (503, {"retry-after-ms": "1"}, KEY),
        refused(401, f"Incorrect API key: {KEY}"),
    ]
    for told in scripts:
        with scripted_endpoint(lambda _, told=told: told) as server:
            (error,) = replies(quick_endpoint(server.url), text_call())
        assert isinstance(error, (NoReplyError, UnreachableError)), error
        shown = "".join(traceback.format_exception(error)) + repr(error) + str(error.hint)
        # Nor any part of it that a cut would leave.
        assert KEY[:8] not in shown
    told = Said(f"your key is {KEY}", finish=KEY)
    with scripted_endpoint(lambda _: told) as server:
        reply = reply_to(quick_endpoint(server.url), text_call())
    assert (reply.text, reply.finish) == ("your key is ***", "***")


def test_a_placeholder_for_a_key_does_not_change_answers() -> None:
    with scripted_endpoint('{"score": 1}') as server:
        assert reply_to(quick_endpoint(server.url, "1"), text_call()).text == '{"score": 1}'


# --- answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "text", "finish"),
    [
        (Said("yes"), "yes", "stop"),
        (Said("ye", finish="length"), "ye", "length"),
        (Said(None, refusal="I will not"), "I will not", "refusal"),
        (Said("", refusal="I will not"), "I will not", "refusal"),
        (Said(None), "", "stop"),
        (Said(None, finish="content_filter"), "", "content_filter"),
        (Said("<think>hm</think>yes", reasoning="long"), "<think>hm</think>yes", "stop"),
        (Said(None, finish="length", reasoning="long"), "", "length"),
    ],
)
def test_what_is_said_is_handed_on(said: Said, text: str, finish: str) -> None:
    with scripted_endpoint(lambda _: said) as server:
        reply = reply_to(quick_endpoint(server.url), text_call())
    assert (reply.text, reply.finish) == (text, finish)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab"),
        ({"content": [{"type": "thinking", "thinking": []}, "x", 3]}, ""),
        ({"content": 3}, ""),
    ],
)
def test_contents_of_other_forms(change: dict[str, Any], text: str) -> None:
    body = completion(Said("x"))
    body["choices"][0]["message"].update(change)
    body["choices"][0]["finish_reason"] = None
    body["usage"] = None
    with scripted_endpoint(lambda _: (200, {}, body)) as server:
        reply = reply_to(quick_endpoint(server.url), text_call())
    assert reply == Reply(text, asked={"format": "text", "without": []})


def test_the_first_token_is_the_first_with_a_letter() -> None:
    first = [
        ("\n", {"\n": -0.1, "Yes": -3.0}),
        (' "', {' "': -0.2}),
        ("Yes", {"Yes": -0.3, "No": -1.5, "yes": -math.inf}),
        ("!", {"!": 0.0}),
    ]
    with scripted_endpoint(lambda _: Said("Yes!", first=first)) as server:
        asked, not_asked = replies(
            quick_endpoint(server.url), text_call(first_token=True), text_call(), together=False
        )
    assert asked.first_token == {"Yes": -0.3, "No": -1.5}
    assert not_asked.first_token is None


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        [],
        "x",
        {"content": None},
        {"content": [{"token": None}]},
        {"content": [{"token": "yes", "logprob": None}]},
        {"content": [{"token": "yes", "logprob": 0.0, "top_logprobs": [3]}]},
        {"tokens": ["yes"], "token_logprobs": [0.0]},
    ],
)
def test_log_probabilities_of_another_form_are_none(logprobs: Any) -> None:
    body = completion(Said("yes"))
    body["choices"][0]["logprobs"] = logprobs
    with scripted_endpoint(lambda _: (200, {}, body)) as server:
        reply = reply_to(quick_endpoint(server.url), text_call(first_token=True))
    assert reply.text == "yes"
    assert reply.first_token is None


# --- what servers do not take -----------------------------------------------------------------


def refuses(*names: str, say: str = "Unsupported parameter: '{}'", status: int = 400) -> Any:
    """A script that refuses requests with one of these parameters, and says its name.

    ``json_schema`` and ``json_object`` are kinds of response_format; ``top>N`` is a limit.
    """

    def complaint(request: Request) -> str | None:
        for name in names:
            if name.startswith("json_"):
                if request.get("response_format", {}).get("type") == name:
                    return "response_format"
            elif name.startswith("top>"):
                if request.get("top_logprobs", 0) > int(name[4:]):
                    return "top_logprobs"
            elif name in request:
                return name
        return None

    def answer(request: Request) -> Told:
        name = complaint(request)
        return refused(status, say.format(name)) if name else "3"

    return answer


FULL = text_call(schema=SCHEMA, first_token=True)
BOTH = ("json_schema", "json_object")


@pytest.mark.parametrize("say", ["Unsupported parameter: '{}'", "Bad request"])
@pytest.mark.parametrize("status", [400, 422, 501])
@pytest.mark.parametrize(
    ("names", "form", "without"),
    [
        (["json_schema"], "object", []),
        (BOTH, "text", []),
        (["seed"], "schema", ["seed"]),
        (["temperature"], "schema", ["temperature"]),
        (["logprobs"], "schema", ["logprobs"]),
        (["top>5"], "schema", []),
        ([*BOTH, "logprobs", "seed", "temperature"], "text", ["logprobs", "seed", "temperature"]),
    ],
)
def test_what_is_refused_is_left_out_and_remembered(
    names: list[str], form: str, without: list[str], status: int, say: str
) -> None:
    with scripted_endpoint(refuses(*names, say=say, status=status)) as server:
        endpoint = quick_endpoint(server.url)
        first, second = replies(endpoint, FULL, FULL, together=False)
        assert first.text == second.text == "3"
        assert first.asked == second.asked == {"format": form, "without": without}
        assert server.count <= 11
        before = server.count
        # Nothing is found out a second time, nor in another order.
        assert reply_to(endpoint, FULL).asked == first.asked
        assert server.count == before + 1
    assert server.requests[-1].get("top_logprobs") == (
        None if "logprobs" in names else 5 if "top>5" in names else 20
    )


@pytest.mark.parametrize("refused_name", ["max_tokens", "max_completion_tokens"])
def test_the_limit_has_two_names(refused_name: str) -> None:
    say = "'{}' is not supported with this model. Use another."
    with scripted_endpoint(refuses(refused_name, say=say)) as server:
        endpoint = quick_endpoint(server.url)
        replies(endpoint, text_call(), text_call(), together=False)
    names = [("max_tokens" in r, "max_completion_tokens" in r) for r in server.requests]
    if refused_name == "max_tokens":
        assert names == [(True, False), (False, True), (False, True)]
    else:
        assert names == [(True, False), (True, False)]


def test_a_parameter_may_be_named_beside_the_words() -> None:
    def answer(request: Request) -> Told:
        if "temperature" in request:
            return refused(400, "seed of all evil", param="temperature")
        return "3"

    with scripted_endpoint(answer) as server:
        reply = reply_to(quick_endpoint(server.url), FULL)
        assert server.count == 2
    assert reply.asked == {"format": "schema", "without": ["temperature"]}


@pytest.mark.parametrize(
    ("words", "most"),
    [
        ("Bad request", 10),
        ("At most 1 image(s) may be provided in one request", 1),
        ("maximum context length is 4096 tokens", 1),
        ("'max_tokens' is too large: 2048. This model's maximum context length is 4096", 1),
    ],
)
def test_a_fault_that_remains_with_less_is_about_something_else(words: str, most: int) -> None:
    bad = Call((Message("user", ("bad",)),), schema=SCHEMA, first_token=True)

    def answer(request: Request) -> Told:
        return refused(400, words) if question_of(request) == "bad" else "3"

    with scripted_endpoint(answer) as server:
        endpoint = quick_endpoint(server.url)
        before, good, after = replies(endpoint, bad, FULL, bad, together=False)
        assert server.count <= most + 2
    assert isinstance(before, NoReplyError)
    assert isinstance(after, NoReplyError)
    assert words in before.message
    assert good.asked == {"format": "schema", "without": []}


def test_what_the_server_took_before_is_not_suspected() -> None:
    def answer(request: Request) -> Told:
        return refused(400, "no") if question_of(request) == "bad" else "3"

    bad = text_call("bad", schema=SCHEMA, first_token=True)
    with scripted_endpoint(answer) as server:
        replies(quick_endpoint(server.url), FULL, bad, bad, FULL, together=False)
    assert server.count == 4


@pytest.mark.parametrize("say", ["response_format {} is not known", "Bad request"])
def test_first_calls_at_the_same_time_find_the_same(say: str) -> None:
    """Six calls, of which each is refused before any of them knows."""
    first = threading.Barrier(6)
    script = refuses("json_schema", "top>5", say=say)

    def answer(request: Request) -> Told:
        everything = request.get("top_logprobs") == 20
        everything &= request.get("response_format", {}).get("type") == "json_schema"
        if everything and question_of(request) != "late":
            first.wait(WAIT)
        told: Told = script(request)
        return told

    calls = [text_call(f"q{n}", schema=SCHEMA, first_token=True) for n in range(6)]
    with scripted_endpoint(answer) as server:
        endpoint = quick_endpoint(server.url)
        said = replies(endpoint, *calls)
        assert [one.text for one in said] == ["3"] * 6
        late = reply_to(endpoint, text_call("late", schema=SCHEMA, first_token=True))
    if say != "Bad request":
        assert late.asked == {"format": "object", "without": []}
    for n in range(6):
        bodies = [json.dumps(r) for r in server.requests if question_of(r) == f"q{n}"]
        assert len(bodies) == len(set(bodies)) <= 10


@pytest.mark.parametrize(
    ("first", "second", "requests"),
    [
        ({"schema": SCHEMA}, {"schema": SCHEMA}, 2),
        ({"schema": SCHEMA}, {"first_token": True}, 3),
        # What the other has found out is half of it.
        ({"schema": SCHEMA, "first_token": True}, {"first_token": True}, 4),
    ],
)
def test_another_call_may_find_out_first(
    first: dict[str, Any], second: dict[str, Any], requests: int
) -> None:
    """A refusal without a name, while another call has left out the same thing, or another."""
    slow_is_waiting, quick_is_done = threading.Event(), threading.Event()

    def answer(request: Request) -> Told:
        if question_of(request) == "slow" and not slow_is_waiting.is_set():
            slow_is_waiting.set()
            quick_is_done.wait(WAIT)
            return refused(400, "Bad request")
        if "logprobs" in request or "response_format" in request:
            return refused(400, "Bad request")
        return "3"

    async def ask() -> list[Reply]:
        slow = asyncio.create_task(endpoint.reply(text_call("slow", **first)))
        await asyncio.to_thread(slow_is_waiting.wait, WAIT)
        quick = await endpoint.reply(text_call("quick", **second))
        quick_is_done.set()
        said = [quick, await slow]
        await endpoint.close()
        return said

    with scripted_endpoint(answer) as server:
        endpoint = quick_endpoint(server.url)
        quick, slow = asyncio.run(ask())
    for said, wanted in ((quick, second), (slow, first)):
        without = ["logprobs"] if "first_token" in wanted else []
        assert said.asked == {"format": "text", "without": without}
    # Nothing is found out a second time.
    assert [question_of(request) for request in server.requests].count("slow") == requests


@pytest.mark.parametrize("words", ["unknown variant `video_url`", "Bad request"])
def test_a_server_without_videos_is_told_of(words: str) -> None:
    clip = Clip(tuple(np.zeros((16, 16, 3), np.uint8) for _ in range(2)), 2.0)
    call = Call((Message("user", (clip, "and?")),))
    with scripted_endpoint(lambda _: refused(400, words)) as server:
        (error,) = replies(quick_endpoint(server.url), call)
    assert isinstance(error, NoReplyError)
    assert f"{words} (a server that takes no videos" in error.message
    assert "show=multi" in error.message


def test_a_server_of_one_picture_is_told_of() -> None:
    pictures = (flat_picture((1, 2, 3)), Picture(np.zeros((8, 8, 3), np.uint8)))
    call = Call((Message("user", (*pictures, "and?")),))
    told = refused(400, "At most 1 image(s) may be provided in one request.")
    with scripted_endpoint(lambda _: told) as server:
        (error,) = replies(quick_endpoint(server.url), call)
    assert isinstance(error, NoReplyError)
    assert "show=grid" in error.message
