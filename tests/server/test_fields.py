"""Fields of requests are the options of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from aigve_cli.errors import UsageError
from aigve_cli.server.commandline import declarations, help_text, parse_command
from aigve_cli.server.fields import RunRequest, fields_to_command, upload_signature

DOCUMENTED = {
    "input_dir": None,
    "out_json": None,
    "generated_suffixes": "synthetic,generated",
    "stage_dataset": None,
    "link": False,
    "compute": False,
    "list_metrics": False,
    "max_seconds": None,
    "fps": 25.0,
    "pad": False,
    "use_cpu": False,
    "fvd_model": None,
    "gstvqa_model": None,
    "simplevqa_model": None,
    "lightvqa_plus_model": None,
    "lightvqa_plus_swin": None,
    "extra_args": None,
    "use_cdfvd": False,
    "cdfvd_model": "videomae",
    "cdfvd_resolution": 128,
    "cdfvd_sequence_length": 16,
    "cdfvd_all_flavors": True,
}
"""Names and defaults of the server before this one; but for metrics, categories and max_len, whose
absence says what they said."""


def words(**fields: Any) -> list[str]:
    command, arguments = fields_to_command(RunRequest(**fields).model_dump(exclude_unset=True))
    return [command, *arguments]


def test_the_documented_fields_have_their_defaults() -> None:
    request = RunRequest().model_dump()
    assert {name: request[name] for name in DOCUMENTED} == DOCUMENTED
    assert {"metrics", "categories", "max_len"} <= request.keys()


def test_every_option_of_compute_is_a_field_and_has_help() -> None:
    fields = RunRequest.model_fields
    for option in declarations():
        assert fields[option.name].description
    # And what is sent comes back out of the parser as it was.
    parameters = upload_signature().parameters
    of_folders = {"input_dir", "reference_dir", "annotations", "video_dir", "recursive"}
    assert {option.name for option in declarations()} - of_folders <= parameters.keys()


@pytest.mark.parametrize("option", declarations(), ids=lambda option: option.name)
def test_a_field_is_read_as_its_flag_is(option: Any) -> None:
    value: Any = {"flag": True, "whole": 7, "number": 2.5}.get(option.kind, "x=y z")
    if option.choices:
        value = option.choices[-1]
    if option.name == "fps":
        value = 12.5
    if option.name in ("batch_size", "decode_workers"):
        value = 3
    if option.many:
        value = ["a.b=c d", "e.f=g"]
    if option.off:
        value = False
    command, *arguments = words(compute=True, **{option.name: value})
    parsed = parse_command(command, arguments)  # type: ignore[arg-type]
    assert parsed.given == {option.parameter}
    found = parsed.options[option.parameter]
    assert (list(found) if option.many else found) == value or str(found) == str(value)


def test_what_is_not_sent_is_not_said() -> None:
    assert words(input_dir="/v", compute=True) == ["compute", "--input-dir=/v"]
    assert words(input_dir="/v", compute=True, metrics="", categories="", prompt=None) == [
        "compute",
        "--input-dir=/v",
    ]


def test_compute_stage_and_prepare() -> None:
    assert words(input_dir="/v", metrics="fid") == ["prepare", "--input-dir=/v"]
    staged = words(input_dir="/v", stage_dataset="/s", link=True)
    assert staged == ["stage", "--input-dir=/v", "--stage-dataset=/s", "--link"]
    assert words(input_dir="/v", stage_dataset="/s", compute=True)[0] == "compute"


STAGED = {"input_dir": "/app/data", "stage_dataset": "/app/out/staged", "compute": True}


@pytest.mark.parametrize(
    ("body", "command", "read"),
    [
        (
            {**STAGED, "categories": "distribution_based", "max_seconds": 8, "fps": 25},
            "compute",
            {"categories": "distribution_based", "max_seconds": 8.0, "fps": "25", "metrics": None},
        ),
        (
            {"input_dir": "/app/data", "out_json": "/app/data/annotations.json"},
            "prepare",
            {"out_json": Path("/app/data/annotations.json")},
        ),
        (
            {"input_dir": "/app/data", "stage_dataset": "/app/out/my_dataset", "link": True},
            "stage",
            {"stage_dataset": Path("/app/out/my_dataset"), "link": True},
        ),
        (
            {
                **STAGED,
                "categories": "nn_based_video",
                "gstvqa_model": "/app/ckpts/GSTVQA.ckpt",
                "simplevqa_model": "/app/ckpts/UGC_BVQA_model.pth",
                "lightvqa_plus_model": "/app/ckpts/lightvqa_plus.pth",
                "lightvqa_plus_swin": "/app/ckpts/swin_small_patch4_window7_224.pth",
            },
            "compute",
            {"gstvqa_model": Path("/app/ckpts/GSTVQA.ckpt")},
        ),
        (
            {**STAGED, "categories": "distribution_based,nn_based_video"},
            "compute",
            {"categories": "distribution_based,nn_based_video", "metrics": None},
        ),
        (
            {
                **STAGED,
                "categories": "distribution_based",
                "use_cpu": True,
                "fvd_model": "/app/ckpts/model_rgb.pth",
            },
            "compute",
            {"use_cpu": True, "fvd_model": Path("/app/ckpts/model_rgb.pth")},
        ),
        (
            {
                **STAGED,
                "categories": "distribution_based",
                "max_seconds": 8,
                "fps": 25,
                "pad": True,
            },
            "compute",
            {"pad": True},
        ),
        (
            {**STAGED, "metrics": "fid,lightvqa+", "lightvqa_plus_model": "/app/ckpts/x.pth"},
            "compute",
            {"metrics": "fid,lightvqa+"},
        ),
    ],
)
def test_the_bodies_of_the_readme_before_this_one(
    body: dict[str, Any], command: str, read: dict[str, Any]
) -> None:
    found, *arguments = words(**body)
    assert found == command
    options = parse_command(found, arguments).options  # type: ignore[arg-type]
    texts = {name: value if value is None else str(value) for name, value in read.items()}
    assert {n: v if (v := options[n]) is None else str(v) for n in read} == texts


def test_values_that_look_like_flags_stay_values() -> None:
    command, *arguments = words(input_dir="/v", compute=True, prompt="--output-dir=/x")
    parsed = parse_command(command, arguments)  # type: ignore[arg-type]
    assert parsed.options["prompt"] == "--output-dir=/x"
    assert "output_dir" not in parsed.given


def test_extra_args_come_last_and_win() -> None:
    fields = {"input_dir": "/v", "compute": True, "max_len": 4}
    command, *arguments = words(**fields, extra_args=["--max-len", "8", "--strict"])
    parsed = parse_command(command, arguments)  # type: ignore[arg-type]
    assert (parsed.options["max_len"], parsed.options["strict"]) == (8, True)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["--some-new-flag", "value"], "some_new_flag"),
        (["--max-len", "x"], "max_len"),
        (["--device=tpu"], "device"),
        (["--max-len"], "max_len"),
        (["stray"], ""),
        (["--", "--strict"], ""),
    ],
)
def test_extra_args_that_cannot_be_read_name_the_field(arguments: list[str], field: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_command("compute", arguments)
    assert error.value.option == field


@pytest.mark.parametrize(
    "fields",
    [
        {"bogus": 1},
        {"max_len": -1},
        {"max_len": 1.5},
        {"max_seconds": float("nan")},
        {"device": "tpu"},
        {"compute": "perhaps"},
        {"input_dir": 7},
        {"input_dir": "x" * 20_000},
        {"extra_args": "--strict"},
        {"set": ["a.b=c"] * 300},
    ],
)
def test_fields_of_the_wrong_kind(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as error:
        RunRequest(**fields)
    assert error.value.errors()[0]["loc"][0] == next(iter(fields))


def test_cdfvd_is_fvd_by_its_convention() -> None:
    given = words(input_dir="/v", compute=True, metrics="fid", use_cdfvd=True)
    assert "--metrics=fid,fvd" in given
    assert "--set=fvd.convention=cd-fvd" in given
    assert "--set=fvd.length=16" in given
    assert words(input_dir="/v", compute=True, cdfvd_sequence_length=32) == [
        "compute",
        "--input-dir=/v",
    ]
    for refused in ({"cdfvd_resolution": 256}, {"cdfvd_all_flavors": False}):
        with pytest.raises(UsageError) as error:
            words(input_dir="/v", compute=True, use_cdfvd=True, **refused)
        assert error.value.option in ("cdfvd_resolution", "cdfvd_model")
    alone = {"cdfvd_model": "i3d", "cdfvd_all_flavors": False}
    assert "--metrics=all,fvd" in words(input_dir="/v", compute=True, use_cdfvd=True, **alone)


def test_help_is_that_of_compute() -> None:
    text = help_text()
    assert text.startswith("Usage: aigve compute")
    assert "--max-seconds" in text
