"""A judge on loopback that takes its time: as many milliseconds a request and a picture as given.

    judges_server.py MS_A_REQUEST MS_A_PICTURE

Prints its address. It answers up to 16 requests at the same time, as a server does that batches
them; what it says follows from the words of the question alone. ``GET /counted`` tells what it was
sent since it was asked so before.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

AT_A_TIME = 16
ELEMENTS = 4
"""Of a prompt, for TIFA: each with one question that has yes and no, and one with four choices."""
STATEMENTS = 6
"""Of a prompt, for DSG."""
PATCH = 28
"""Pixels a side of a token's part of a picture, as Qwen2.5-VL has it."""
HEADER = 4096
"""Characters of a JPEG file in base64 that hold its size."""

counted: Counter[str] = Counter()
lock = threading.Lock()
places = threading.Semaphore(AT_A_TIME)


def data_urls(request: dict) -> list[tuple[str, str]]:
    """Kind and address of every picture and video."""
    contents = [message["content"] for message in request["messages"]]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return [(part["type"], part[part["type"]]["url"]) for part in parts if part["type"] != "text"]


def picture_tokens(url: str) -> int:
    start = url.partition(",")[2][:HEADER]
    width, height = Image.open(io.BytesIO(base64.b64decode(start))).size
    return max(round(width / PATCH), 1) * max(round(height / PATCH), 1)


def count(request: dict, size: int) -> int:
    """Add a request to what was counted; gives its pictures and videos."""
    shown = data_urls(request)
    tokens = sum(picture_tokens(url) for kind, url in shown if kind == "image_url")
    with lock:
        counted["requests"] += 1
        counted["shown requests"] += bool(shown)
        counted["pictures"] += len(shown)
        counted["bytes"] += size
        counted["picture characters"] += sum(len(url) for _, url in shown)
        counted["picture tokens"] += tokens
    return len(shown)


def answer(request: dict, *, shown: bool) -> str:
    content = request["messages"][-1]["content"]
    question = content if isinstance(content, str) else content[-1]["text"]
    number = hashlib.sha256(question.encode()).digest()[0]
    form = request.get("response_format")
    if form is None:
        return ("yes", "no")[number % 2]
    fields = form["json_schema"]["schema"]["properties"]
    return json.dumps({name: value(name, fields, question, number, shown) for name in fields})


def value(name: str, fields: dict, question: str, number: int, shown: bool) -> object:
    ids = range(1, STATEMENTS + 1)
    if name == "answer":
        choices = fields["answer"].get("enum")
        if shown:
            return choices[number % len(choices)]
        # Whoever reads the prompt alone is right: no question is filtered out.
        return choices[0] if choices else re.search(r"number \d+", question)[0]
    if name == "score":
        follows_prompt = "prompt of the video" in question
        return [number % 11] if follows_prompt else [number % 11, 10 - number % 11]
    return {
        "reasoning": "It is as it is.",
        "elements": [element(place) for place in range(ELEMENTS)],
        "tuples": [{"id": id_, "tuple": f"entity - whole (thing {id_})"} for id_ in ids],
        "questions": [{"id": id_, "question": f"Is there thing {id_}?"} for id_ in ids],
        "dependencies": [{"id": id_, "parents": [1] if id_ > 1 else []} for id_ in ids],
    }[name]


def element(place: int) -> dict:
    others = [f"number {place + more}" for more in range(ELEMENTS)]
    open_one = {"question": f"which is number {place}?", "choices": others, "answer": others[0]}
    yes_or_no = {"question": f"is there a {place}?", "choices": ["yes", "no"], "answer": "yes"}
    return {"element": f"{place}", "type": "object", "questions": [yes_or_no, open_one]}


def completion(request: dict, text: str) -> dict:
    choice: dict = {"index": 0, "finish_reason": "stop", "logprobs": None}
    choice["message"] = {"role": "assistant", "content": text}
    if request.get("logprobs"):
        first = {"token": text, "logprob": -0.1, "bytes": None}
        choice["logprobs"] = {"content": [{**first, "top_logprobs": [first]}]}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    facts = {"id": "1", "object": "chat.completion", "created": 1, "model": request["model"]}
    return {**facts, "choices": [choice], "usage": usage}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    seconds, seconds_a_picture = (float(text) / 1000 for text in sys.argv[1:3])

    def do_GET(self) -> None:
        with lock:
            told = dict(counted)
            counted.clear()
        self.send(told)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with places:
            start = time.monotonic()
            request = json.loads(body)
            shown = count(request, len(body))
            told = completion(request, answer(request, shown=shown > 0))
            # What reading the request took is a part of its time, not on top of it.
            left = self.seconds + shown * self.seconds_a_picture - (time.monotonic() - start)
            time.sleep(max(left, 0.0))
        self.send(told)

    def send(self, document: dict) -> None:
        content = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
