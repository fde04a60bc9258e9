"""What requests and answers look like, for the pages of documentation."""

from __future__ import annotations

from typing import Any

REQUESTS: dict[str, Any] = {
    "distribution metrics": {
        "summary": "FID, FVD, IS, KID and KVD of a folder with generated and reference videos",
        "value": {
            "input_dir": "/app/data",
            "stage_dataset": "/app/out/staged",
            "compute": True,
            "categories": "distribution_based",
            "max_seconds": 8,
            "fps": 25,
        },
    },
    "some metrics": {
        "summary": "Metrics by name, with an option, of generated videos and their references",
        "value": {
            "input_dir": "/app/data/generated",
            "reference_dir": "/app/data/real",
            "compute": True,
            "metrics": "fid,cliptemp",
            "set": ["fid.convention=clean-fid"],
        },
    },
    "prompts": {
        "summary": "Metrics that compare videos with their prompts",
        "value": {
            "input_dir": "/app/data/generated",
            "prompts": "/app/data/prompts.csv",
            "compute": True,
            "metrics": "clipsim,pickscore",
        },
    },
    "annotations": {
        "summary": "Write annotations, and compute nothing",
        "value": {"input_dir": "/app/data", "out_json": "/app/out/annotations.json"},
    },
    "stage": {
        "summary": "Gather videos and annotations in one folder, as links",
        "value": {"input_dir": "/app/data", "stage_dataset": "/app/out/my_dataset", "link": True},
    },
    "flags": {
        "summary": "Any other flag of the command line",
        "value": {
            "input_dir": "/app/data",
            "compute": True,
            "metrics": "vbench",
            "extra_args": ["--set", "vbench.mode=fixed", "--strict"],
        },
    },
}
PROGRESS: dict[str, Any] = {
    "videos": 163,
    "total": 200,
    "frames": 10432,
    "frames_per_second": 181.2,
    "requests": 0,
    "seconds": 57.6,
    "eta_seconds": 13.1,
}
JOB: dict[str, Any] = {
    "id": "gHkpTzaI1vROkk4F0DJJEM9A",
    "state": "running",
    "position": None,
    "created": "2026-11-30T22:40:46.397+00:00",
    "started": "2026-11-30T22:40:46.416+00:00",
    "finished": None,
    "expires": None,
    "returncode": None,
    "reason": None,
    "progress": PROGRESS,
    "attempts": 1,
    "links": {
        "self": "/jobs/gHkpTzaI1vROkk4F0DJJEM9A",
        "events": "/jobs/gHkpTzaI1vROkk4F0DJJEM9A/events",
        "results": "/jobs/gHkpTzaI1vROkk4F0DJJEM9A/results",
    },
}
RUN: dict[str, Any] = {
    "cmd": ["aigve", "compute", "--input-dir=/app/data", "--metrics=fid"],
    "returncode": 0,
    "stdout": "metric\tvalue\tstandard_error\tbetter\tvideos\tweights\trequested\tnote\n"
    "fid\t31.42\t1.9\tlower\t100\tstandard\tfid\t\n",
    "stderr": "100 generated, 100 paired with 100 references, 0 unpaired, 0 with a prompt\n",
    "results": {"results": [{"value_name": "fid", "value": 31.42, "standard_error": 1.9}]},
    "artifacts": [{"name": "fid_results.json", "content": {"FID_Mean_Score": 35.1}}],
    "job": {
        **JOB,
        "state": "done",
        "returncode": 0,
        "finished": "2026-11-30T22:41:57.020+00:00",
        "expires": "2026-12-01T22:41:57.020+00:00",
    },
}
HEALTH: dict[str, Any] = {
    "status": "ok",
    "python": "3.12.3",
    "cwd": "/app",
    "script_exists": True,
    "script_path": "/app/scripts/prepare_annotations.py",
    "torch": "2.14.1+cu130",
    "cuda_available": True,
    "cuda_version": "13.0",
    "device_count": 1,
    "torch_error": None,
    "versions": {"aigve": "0.1.0", "torch": "2.14.1"},
    "queue": {"length": 0, "size": 8, "running": 1},
    "workers": 1,
}
EVENTS = (
    'event: state\ndata: {"id": "gHkpTzaI1vROkk4F0DJJEM9A", "state": "running", …}\n\n'
    'event: note\nid: 1\ndata: {"text": "100 generated, 100 paired with 100 references, …"}\n\n'
    'event: progress\ndata: {"videos": 163, "total": 200, …}\n\n'
)
