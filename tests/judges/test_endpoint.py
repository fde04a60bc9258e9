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
from aigve_cli.judges.http_client import proxy_variable
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
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


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
        "4",
        tokens_read=11,
        tokens_written=3,
        asked={"format": "schema", "without": []},
        model="scripted",
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
        with pytest.raises(UnreachableError, match="AIGVE_JUDGE_KEY is not set") as caught:
            reply_to(quick_endpoint(server.url, None), text_call())
        assert caught.value.hint == "Put its key into the environment as AIGVE_JUDGE_KEY."
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


PINNED = {"detail": "Server is pinned to 'other/model'; requested 'scripted'."}


@pytest.mark.parametrize(
    "told",
    [
        (400, {}, PINNED),
        refused(400, "model 'scripted' not found", code="1"),
        refused(400, "The model `Scripted` does not exist."),
        refused(400, "Invalid model: scripted"),
        refused(400, "scripted is not a valid model ID"),
        refused(422, "Model Not Exist"),
    ],
)
def test_an_unknown_model_may_be_a_bad_request(told: Told) -> None:
    with scripted_endpoint(lambda _: told) as server:
        server.models = ["other/model"]
        with pytest.raises(UnreachableError, match="no model 'scripted'") as caught:
            reply_to(quick_endpoint(server.url), text_call())
        assert server.count == 1
    assert caught.value.hint == "It offers other/model."


@pytest.mark.parametrize(
    "words",
    [
        "model scripted: logprobs are not available",
        "seed is not found among the parameters of model scripted",
        "the model 'scripted' does not support temperature",
    ],
)
def test_a_bad_request_that_names_the_model_may_be_about_a_parameter(words: str) -> None:
    def answer(request: Request) -> Told:
        name = next(name for name in ("logprobs", "seed", "temperature") if name in words)
        return refused(400, words) if name in request else "3"

    with scripted_endpoint(answer) as server:
        call = text_call(first_token=True)
        assert reply_to(quick_endpoint(server.url), call).text == "3"


def test_a_wrong_path_is_explained() -> None:
    with scripted_endpoint("ok") as server:
        endpoint = quick_endpoint(server.url.removesuffix("/v1"))
        with pytest.raises(UnreachableError, match="no such path") as caught:
            reply_to(endpoint, text_call())
    assert "/v1" in str(caught.value.hint)


@pytest.mark.parametrize("answered_before", [False, True])
def test_a_silent_server_is_asked_once_more(answered_before: bool) -> None:
    """Where it has never said anything it is none; else it costs one request."""
    goes_on = threading.Event()

    def answer(request: Request) -> Told:
        if question_of(request) == "silence":
            goes_on.wait(WAIT)
        return "3"

    calls = [text_call("first")] * answered_before + [text_call("silence")]
    with scripted_endpoint(answer) as server:
        endpoint = quick_endpoint(server.url, max_retries=4, read_seconds=0.1)
        error = replies(endpoint, *calls, together=False)[-1]
        goes_on.set()
        assert server.count == len(calls) + 1
    assert type(error) is (NoReplyError if answered_before else UnreachableError)
    assert "has not answered within 0.1 s" in error.message
    if not answered_before:
        assert "--judge-concurrency" in error.hint


def test_silence_after_a_passing_fault_is_not_tried_again() -> None:
    goes_on = threading.Event()
    left: list[Told] = [at_once(503, "in a moment"), "3"]

    def answer(_: Request) -> Told:
        if left:
            return left.pop()
        goes_on.wait(WAIT)
        return "late"

    with scripted_endpoint(answer) as server:
        endpoint = quick_endpoint(server.url, max_retries=4, read_seconds=0.1)
        _, error = replies(endpoint, text_call(), text_call(), together=False)
        goes_on.set()
        assert server.count == 3
    assert isinstance(error, NoReplyError)
    assert "has not answered" in error.message


FAILURES: tuple[Told, ...] = (
    (500, {}, "out of memory"),
    (200, {}, "<html>please log in"),
    refused(400, "maximum context length is 4096 tokens"),
    (429, {}, {"error": "slow down"}),
    BreakOff(),
    (413, {}, "too much"),
    (200, {}, {"choices": []}),
)


def test_a_server_that_only_fails_is_no_judge() -> None:
    last = refused(503, "asleep")
    with scripted_endpoint(in_turn(*FAILURES, last, *FAILURES)) as server:
        endpoint = quick_endpoint(server.url, max_retries=0)
        *said, eighth, ninth = replies(endpoint, *[text_call()] * 9, together=False)
    assert [type(error) for error in said] == [NoReplyError] * 7
    for error in (eighth, ninth):
        assert isinstance(error, UnreachableError)
        assert "--judge-concurrency" in str(error.hint)
    assert "8 requests in a row have failed, the last: 127.0.0.1" in eighth.message
    assert eighth.message.endswith("answers 503: asleep")


def test_a_judge_that_has_answered_may_fail_longer() -> None:
    """Up to 40 requests in a row; one answer between them, and the count begins anew."""
    fault = refused(500, "out of memory")
    script = in_turn("1", *[fault] * 39, "2", *[fault] * 40)
    with scripted_endpoint(script) as server:
        endpoint = quick_endpoint(server.url, max_retries=0)
        said = replies(endpoint, *[text_call()] * 81, together=False)
    kinds = [Reply, *[NoReplyError] * 39, Reply, *[NoReplyError] * 39, UnreachableError]
    assert [type(one) for one in said] == kinds
    assert "40 requests in a row have failed" in said[-1].message
    assert "out of memory" in said[-1].message
    assert "All answers so far are kept" in said[-1].hint


@pytest.mark.parametrize("code", ["content_filter", "content_policy_violation"])
def test_what_is_refused_for_its_content_is_an_answer(code: str) -> None:
    told = refused(400, f"Not this picture {KEY}.", code=code)
    script = in_turn(*[told] * 9, *[refused(500, "busy")] * 9)
    with scripted_endpoint(script) as server:
        endpoint = quick_endpoint(server.url, max_retries=0)
        said = replies(endpoint, *[text_call()] * 18, together=False)
    asked = {"format": "text", "without": []}
    assert said[:9] == [Reply("Not this picture ***.", "content_filter", asked=asked)] * 9
    # The server is there, and knows the model.
    assert [type(error) for error in said[9:]] == [NoReplyError] * 9


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


# --- proxies ----------------------------------------------------------------------------------


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:{}", "socks5://127.0.0.1:{}", "socks://x:{}"])
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "all_proxy"])
def test_a_judge_on_this_machine_is_asked_directly(
    monkeypatch: pytest.MonkeyPatch, proxy: str, variable: str
) -> None:
    monkeypatch.setenv(variable, proxy.format(closed_port()))
    with scripted_endpoint("3") as server:
        for host in ("127.0.0.1", "localhost"):
            url = server.url.replace("127.0.0.1", host)
            assert reply_to(quick_endpoint(url, max_retries=0), text_call()).text == "3"


def test_a_judge_elsewhere_is_asked_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted_endpoint("3") as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        endpoint = quick_endpoint("http://judge.invalid/v1", max_retries=0)
        replies(endpoint, text_call())
    assert proxy.asked[0] == "POST http://judge.invalid/v1/chat/completions"


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "all_proxy"])
def test_a_proxy_that_does_not_answer_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, f"http://me:geheim@127.0.0.1:{closed_port()}")
    endpoint = quick_endpoint("http://judge.invalid/v1", max_retries=0)
    with pytest.raises(UnreachableError, match=r"No judge answers at http://judge") as caught:
        reply_to(endpoint, text_call())
    assert f"through the proxy that {variable} names" in str(caught.value.hint)
    assert "geheim" not in f"{caught.value.message}{caught.value.hint}"


def test_only_the_proxy_that_is_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:2")
    assert proxy_variable("https://judge.invalid/v1") == "HTTPS_PROXY"
    assert proxy_variable("http://judge.invalid/v1") == "ALL_PROXY"
    monkeypatch.setenv("NO_PROXY", "judge.invalid")
    assert proxy_variable("http://judge.invalid/v1") is None


def test_a_proxy_that_cannot_be_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks://me:geheim@127.0.0.1:1")
    with pytest.raises(UnreachableError, match="The proxy of ALL_PROXY cannot be used") as caught:
        reply_to(quick_endpoint("http://judge.invalid/v1"), text_call())
    assert "geheim" not in f"{caught.value.message}{caught.value.hint}"


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


@pytest.mark.parametrize(("length", "cut"), [(200_000, False), (10_000_000, True)])
def test_an_endless_answer_is_cut(length: int, cut: bool) -> None:
    with scripted_endpoint("é" * length) as server:
        reply = reply_to(quick_endpoint(server.url), text_call())
    assert reply.text == "é" * 200_000
    assert reply.asked.get("cut_to") == (200_000 if cut else None)


def test_a_cut_leaves_no_part_of_the_key() -> None:
    with scripted_endpoint("x" * (200_000 - 10) + KEY) as server:
        assert KEY[:8] not in reply_to(quick_endpoint(server.url), text_call()).text


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
    asked = {"format": "text", "without": []}
    assert reply == Reply(text, asked=asked, model="scripted")


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


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "unknown variant `video_url`"),
        *((status, "Bad request") for status in (400, 415, 422, 500, 501)),
    ],
)
def test_a_server_without_videos_is_told_of(status: int, words: str) -> None:
    clip = Clip(tuple(np.zeros((16, 16, 3), np.uint8) for _ in range(2)), 2.0)
    call = Call((Message("user", (clip, "and?")),))
    with scripted_endpoint(lambda _: at_once(status, words)) as server:
        error, other = replies(quick_endpoint(server.url), call, text_call(), together=False)
    assert isinstance(error, NoReplyError)
    assert f"{words} (a server that takes no videos" in error.message
    assert "show=multi" in error.message
    assert "show=multi" not in other.message


def test_a_server_of_one_picture_is_told_of() -> None:
    pictures = (flat_picture((1, 2, 3)), Picture(np.zeros((8, 8, 3), np.uint8)))
    call = Call((Message("user", (*pictures, "and?")),))
    told = refused(400, "At most 1 image(s) may be provided in one request.")
    with scripted_endpoint(lambda _: told) as server:
        (error,) = replies(quick_endpoint(server.url), call)
    assert isinstance(error, NoReplyError)
    assert "show=grid" in error.message


@pytest.mark.parametrize("status", [402, 403, 404])
def test_what_a_gateway_says_of_one_input_costs_one_request(status: int) -> None:
    def answer(request: Request) -> Told:
        if question_of(request) == "too dear":
            return refused(status, "not this input")
        return "3"

    with scripted_endpoint(answer) as server:
        endpoint = quick_endpoint(server.url)
        calls = [text_call("fine"), text_call("too dear"), text_call("fine again")]
        said = replies(endpoint, *calls, together=False)
    assert isinstance(said[1], NoReplyError)
    assert "not this input" in said[1].message
    assert [said[0].text, said[2].text] == ["3", "3"]


def test_models_behind_one_host_are_told_apart_by_their_path() -> None:
    one, other = (OpenAIEndpoint("m", f"http://h:1/{path}") for path in ("a/v1", "b/v1"))
    assert one.identity != other.identity
    usual = {"backend": "openai", "model": "m", "host": "h:1"}
    assert OpenAIEndpoint("m", "http://h:1/v1").identity == usual


def test_another_server_is_not_shown_what_this_one_was() -> None:
    with scripted_endpoint("3") as other:
        there = {"Location": f"{other.url}/chat/completions"}
        with scripted_endpoint(lambda _: (307, there, "")) as server:
            (said,) = replies(quick_endpoint(server.url), text_call())
    assert isinstance(said, NoReplyError | UnreachableError)
    assert other.asked == []


def test_a_secret_in_an_address_is_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        OpenAIEndpoint("m", "http://h/v1?api-key=SECRET")
    assert "SECRET" not in f"{caught.value.message} {caught.value.hint}"
