"""A plain loop over videos and questions: one request after another.

    judges_program.py URL ANNOTATIONS VIDEOS METRIC

Prints the mean over videos. The questions, and how an answer is read, are aigve's own, so that both
ask the same. The rest is as one writes it for one metric: every frame is decoded, some are kept,
and each request has its pictures encoded, in the size and the JPEG quality of aigve's.
"""

from __future__ import annotations

import base64
import io
import json
import math
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from openai import OpenAI
from PIL import Image

from aigve_cli.judges.task import Answer, Ask
from aigve_cli.metrics.dsg import DsgTask
from aigve_cli.metrics.tifa import TifaTask
from aigve_cli.metrics.viescore import VieScoreTask

FRAMES = 8
SIDE = 512
TASKS = {"viescore": VieScoreTask, "tifa": TifaTask, "dsg": DsgTask}


def frames_of(path: Path) -> list[Image.Image]:
    """The middle of eight equal parts, the longer side 512."""
    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    frames = [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]
    kept = [frames[int((part + 0.5) * len(frames) / FRAMES)] for part in range(FRAMES)]
    scale = min(1.0, SIDE / max(width, height))
    size = (round(width * scale), round(height * scale))
    return [Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC) for frame in kept]


def picture_part(picture: Image.Image) -> dict:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=95, subsampling=0)
    text = base64.b64encode(file.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{text}"}}


def ask_once(client: OpenAI, ask: Ask, frames: list[Image.Image]) -> Answer:
    content: list[dict] = []
    if ask.shown:
        for place, frame in enumerate(frames):
            content += [{"type": "text", "text": f"Frame {place + 1}:"}, picture_part(frame)]
    content.append({"type": "text", "text": ask.text})
    more: dict = {"logprobs": True, "top_logprobs": 20} if ask.words else {}
    if ask.schema:
        schema = {"name": "answer", "strict": True, "schema": ask.schema}
        more["response_format"] = {"type": "json_schema", "json_schema": schema}
    reply = client.chat.completions.create(
        model="plain",
        messages=[
            {"role": "system", "content": ask.system},
            {"role": "user", "content": content if ask.shown else ask.text},
        ],
        max_tokens=ask.max_tokens,
        temperature=0.0,
        **more,
    )
    return Answer(ask.read(reply.choices[0].message.content))


def record_of(client: OpenAI, metric: str, path: Path, prompt: str) -> dict:
    frames = frames_of(path)
    talk = TASKS[metric]().talk(prompt)
    asks = next(talk)
    while True:
        try:
            asks = talk.send([ask_once(client, ask, frames) for ask in asks])
        except StopIteration as end:
            return end.value


def score(metric: str, record: dict) -> float:
    if metric == "viescore":
        return math.sqrt(min(record["semantic"]["score"]) * min(record["quality"]["score"]))
    questions = record["questions"]
    if metric == "tifa":
        return sum(asked["answered"] == asked["answer"] for asked in questions) / len(questions)
    said = {asked["id"]: asked["answered"] == "yes" for asked in questions}
    right = [said[asked["id"]] and all(map(said.get, asked["parents"])) for asked in questions]
    return sum(right) / len(right)


def main() -> None:
    url, annotations, videos, metric = sys.argv[1:]
    client = OpenAI(base_url=f"{url}/v1", api_key="none")
    entries = json.loads(Path(annotations).read_text())["data_list"]
    scores = [
        score(
            metric,
            record_of(client, metric, Path(videos) / entry["video_path_pd"], entry["prompt_gt"]),
        )
        for entry in entries
    ]
    print(sum(scores) / len(scores))


if __name__ == "__main__":
    main()
