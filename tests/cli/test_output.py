"""What a terminal shows, and an output that cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from aigve_cli import evaluate
from aigve_cli.errors import UsageError
from aigve_cli.output import Column, Output
from tests.conftest import process_environment


@pytest.mark.parametrize("columns", ["60", "80", "200"])
def test_names_and_numbers_are_never_cut(aigve, columns):
    done = aigve("list-metrics", "--format", "table", env={"COLUMNS": columns})
    header = done.stdout.splitlines()[0].split()
    assert header == [
        "METRIC",
        "CATEGORY",
        "NEEDS",
        "BETTER",
        "PER",
        "VIDEO",
        "FOR",
        "WEIGHTS",
        "LICENCE",
        "FROM",
        "TITLE",
    ]
    for name in ("fid-lite0", "kid-lite0", "distribution_based", "generated, reference"):
        assert name in done.stdout


def test_notes_go_on_in_the_next_line(aigve):
    done = aigve("list-metrics", "--format", "table", env={"COLUMNS": "60"})
    words = " ".join(done.stdout.split())
    assert "Fréchet distance of" in words
    assert len(done.stdout.splitlines()) > 5


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_an_output_that_is_full():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", "from aigve_cli.main import run; run()", "list-metrics"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=process_environment(),
            check=False,
        )
    assert done.returncode == 4
    assert done.stderr.startswith("Error: The results cannot be written")
    assert "Traceback" not in done.stderr


def test_an_ffmpeg_that_does_not_work_is_not_the_videos_fault(pairs, tmp_path, aigve):
    done = aigve(
        *(
            "compute",
            "--input-dir",
            pairs,
            "--metrics",
            "is",
            "--output-dir",
            tmp_path,
            "--use-cpu",
        ),
        env={"IMAGEIO_FFMPEG_EXE": "/bin/false"},
    )
    assert done.code == 4
    assert "ffmpeg does not work" in done.stderr


@pytest.mark.parametrize("given", ["", ",", " , "])
def test_no_metric_is_not_every_metric(pairs, aigve, given):
    done = aigve("compute", "--input-dir", pairs, "--metrics", given, "--dry-run")
    assert done.code == 2
    assert "names nothing" in done.stderr


@pytest.mark.parametrize(
    "wrong",
    [{"precision": "fp64"}, {"weights": "standrd"}, {"device": "gpu"}, {"batch_size": 0}],
)
def test_python_callers_are_checked_too(pairs, tmp_path, wrong):
    with pytest.raises(UsageError, match="must be"):
        evaluate(pairs, metrics="is", output_dir=tmp_path, **wrong)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("a\x00b\x9bc\x7f", r"a\x00b\x9bc\x7f"),
        ("\u202eeman\u2066", r"\u202eeman\u2066"),
        ("caf\u00e9 \u4e16\u754c \U0001f600\n\tnext", "caf\u00e9 \u4e16\u754c \U0001f600\n\tnext"),
    ],
)
@pytest.mark.parametrize("format_", ["table", "tsv", "csv"])
def test_no_text_steers_the_terminal(text, shown, format_, capsys):
    """What a server or a model says comes into notes, warnings and tables."""
    output = Output(color="never")
    output.warn(text)
    output.rows([{"note": text}], (Column("note", "NOTE"),), format_)
    printed = capsys.readouterr()
    assert printed.err == f"Warning: {shown}\n"
    if "\n" not in text:
        assert shown in printed.out
    assert not set(printed.out) & set("\x1b\x07\x00\x9b\x7f\u202e\u2066")
