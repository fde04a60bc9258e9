"""A plain loop over videos, as one writes it with OpenCV and transformers.

    similarity_program.py clipsim|cliptemp|forwards MODEL VIDEOS PROMPTS

Prints the mean over videos. Pictures are prepared by the model's own image processor on its PIL
backend (the other one gives other numbers), and all frames of a video go through the model at once.
``forwards`` encodes as many pictures of the right size, and reads no video.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import torch
from transformers import AutoProcessor, CLIPModel

FORWARD_BATCH = 6


def frames_of(path: Path) -> list:
    video, frames = cv2.VideoCapture(str(path)), []
    while True:
        there, frame = video.read()
        if not there:
            return frames
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))


def directions(features) -> torch.Tensor:
    return torch.nn.functional.normalize(features.pooler_output, dim=1)


@torch.inference_mode()
def score(metric: str, model: CLIPModel, processor, path: Path, prompt: str) -> float:
    if metric == "forwards":
        count = int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT))
        for first in range(0, count, FORWARD_BATCH):
            some = min(FORWARD_BATCH, count - first)
            model.get_image_features(torch.zeros(some, 3, 224, 224))
        return 0.0
    frames = frames_of(path)
    pictures = processor(images=frames, return_tensors="pt")
    images = directions(model.get_image_features(**pictures))
    if metric == "cliptemp":
        return float((images[:-1] * images[1:]).sum(1).mean())
    texts = processor(text=[prompt], return_tensors="pt", truncation=True, max_length=77)
    text = directions(model.get_text_features(**texts))
    return float((images @ text.T).mean())


def main() -> None:
    metric, folder, videos, prompts = sys.argv[1:]
    model = CLIPModel.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder, backend="pil")
    named = json.loads(Path(prompts).read_text())
    paths = sorted(Path(videos).iterdir())
    scores = [score(metric, model, processor, path, named[path.name]) for path in paths]
    print(sum(scores) / len(scores))


if __name__ == "__main__":
    main()
