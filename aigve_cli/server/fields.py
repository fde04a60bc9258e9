"""The fields of requests, made from the declarations of the command line."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from fastapi import File, Form, UploadFile
from pydantic import BaseModel, ConfigDict, Field, create_model

from aigve_cli.errors import UsageError
from aigve_cli.server.commandline import Command, Declaration, declarations, fields_to_arguments
from aigve_cli.server.guard import MOST

LONGEST = 16_384
"""Characters of one text."""
MOST_VALUES = 200
"""Of a field that may be repeated."""
NUMBERS_AND_WORDS: Mapping[str, Any] = {
    "fps": float | Literal["native"],
    "batch_size": int | Literal["auto"],
    "decode_workers": int | Literal["auto"],
}
"""Options whose words are mostly numbers, which callers write as such."""
EXAMPLES: Mapping[str, Any] = {
    "input_dir": "/app/data",
    "metrics": "fid,is",
    "categories": "distribution_based",
    "max_seconds": 8,
}
CDFVD = 128
"""The shorter side, in pixels, that content-debiased-fvd brings frames to before it crops."""
UPLOAD_DEFAULTS: Mapping[str, Any] = {"compute": True, "categories": "distribution_based"}
"""Of uploads, where they are others: who sends videos wants them scored."""
UPLOAD_FILES = ("videos", "generated", "references", "prompts")
_OF_FOLDERS = ("input_dir", "reference_dir", "annotations", "video_dir", "recursive", "prompts")
"""Options that name input which an upload brings with it."""


class Extra(BaseModel):
    """What a request may say beside the options of ``aigve compute``."""

    model_config = ConfigDict(extra="forbid", str_max_length=LONGEST, allow_inf_nan=False)

    compute: bool = Field(
        default=False,
        description="Score the videos. Otherwise annotations are written, or a data set staged.",
    )
    list_metrics: bool = Field(
        default=False, description="Only list the metrics that are installed; see GET /metrics."
    )
    extra_args: list[str] | None = Field(
        default=None,
        max_length=MOST_VALUES,
        description="More flags of `aigve compute`, word by word.",
        examples=[["--set", "fid.convention=clean-fid"]],
    )
    use_cdfvd: bool = Field(
        default=False,
        description="Compute fvd as content-debiased-fvd does with its I3D: the same as "
        "set: [fvd.convention=cd-fvd] with fvd among the metrics.",
    )
    cdfvd_model: Literal["videomae", "i3d"] = Field(
        default="videomae", description="Only i3d is here; videomae needs cdfvd_all_flavors."
    )
    cdfvd_resolution: int = Field(default=CDFVD, ge=1, le=4096)
    cdfvd_sequence_length: int = Field(default=16, ge=10, le=1024)
    cdfvd_all_flavors: bool = Field(
        default=True, description="Every flavour that is here, which is i3d alone."
    )


def _annotation(option: Declaration) -> Any:
    if option.choices:
        return Literal[option.choices]
    if option.name in NUMBERS_AND_WORDS:
        return NUMBERS_AND_WORDS[option.name]
    if option.kind == "whole":
        return Annotated[int, Field(ge=0, le=MOST["whole"])]
    if option.kind == "number":
        return Annotated[float, Field(ge=0, le=MOST["number"])]
    kind = bool if option.kind == "flag" else str
    return Annotated[list[str], Field(max_length=MOST_VALUES)] if option.many else kind


def _default(option: Declaration) -> Any:
    if option.name == "fps":
        return 25.0
    # A job's folder is its own; the current one is the server's.
    return None if option.name == "output_dir" else option.default


def _field(option: Declaration) -> tuple[Any, Any]:
    kind, default = _annotation(option), _default(option)
    examples = [EXAMPLES[option.name]] if option.name in EXAMPLES else None
    description = option.help or f"As {option.flag} of the tools before aigve."
    if default is None:
        kind |= None
    return kind, Field(default=default, description=description, examples=examples)


RunRequest: type[Extra] = create_model(
    "RunRequest",
    __base__=Extra,
    __doc__="The options of `aigve compute`, as fields. What is not given is as on the command "
    "line of the server: its variables, its aigve.toml, then the defaults.",
    **cast(dict[str, Any], {option.name: _field(option) for option in declarations()}),
)


def fields_to_command(fields: Mapping[str, Any]) -> tuple[Command, list[str]]:
    """The words of a command line that do what a request's fields say.

    Raises:
        UsageError: Fields that contradict each other or ask for what is not here.
    """
    # Forms of older clients send empty texts for what they do not set.
    given = {name: value for name, value in fields.items() if value not in (None, "", [])}
    command: Command = "prepare"
    if given.get("compute"):
        command = "compute"
    elif "stage_dataset" in given:
        command = "stage"
    if given.get("use_cdfvd") and command == "compute":
        given |= _cdfvd(given)
    for name in ("fps", "batch_size", "decode_workers"):
        if isinstance(given.get(name), float):
            given[name] = repr(given[name]).removesuffix(".0")
    return command, [*fields_to_arguments(given, command), *(given.get("extra_args") or [])]


def _cdfvd(given: Mapping[str, Any]) -> dict[str, Any]:
    if given.get("cdfvd_model", "videomae") == "videomae" and not given.get(
        "cdfvd_all_flavors", True
    ):
        raise UsageError(
            "cdfvd_model videomae is not here.",
            hint="cdfvd_model i3d, or cdfvd_all_flavors true for all that are.",
            option="cdfvd_model",
        )
    if given.get("cdfvd_resolution", CDFVD) != CDFVD:
        raise UsageError(
            f"cdfvd_resolution {given['cdfvd_resolution']}: {CDFVD} is what content-debiased-fvd "
            "takes by default, and the only one here.",
            option="cdfvd_resolution",
        )
    names = [name for name in str(given.get("metrics", "")).split(",") if name.strip()]
    if not names and "categories" not in given:
        names = ["all"]
    length = given.get("cdfvd_sequence_length", 16)
    more = ["fvd.convention=cd-fvd", f"fvd.length={length}"]
    return {
        "metrics": ",".join(dict.fromkeys([*names, "fvd"])),
        "set": [*given.get("set", []), *more],
    }


def upload_signature() -> inspect.Signature:
    """The parameters of the endpoint for uploads: files, and each option as a form's field."""
    files = {
        "videos": "Videos. Which are generated is told by their names, as in a folder: "
        "a_synthetic.mp4 is generated, a.mp4 its reference.",
        "generated": "Generated videos, whatever they are called.",
        "references": "Reference videos; those of the same name as a generated one are its pair.",
    }
    parameters = [
        _parameter(name, list[UploadFile], [], File(description=text, max_length=10_000))
        for name, text in files.items()
    ]
    words = "Prompts by the videos' names: csv, json, jsonl or txt."
    parameters.append(_parameter("prompts", UploadFile | None, None, File(description=words)))
    words = "Answer when the job is done; otherwise at once, with 202 and the job."
    parameters.append(_parameter("wait", bool, True, Form(description=words)))
    for option in declarations():
        if option.name not in _OF_FOLDERS:
            parameters.append(_form_parameter(option))
    for name, field in Extra.model_fields.items():
        form = Form(description=field.description)
        if name == "extra_args":
            parameters.append(_parameter(name, list[str], [], form))
        elif name != "list_metrics":
            default = UPLOAD_DEFAULTS.get(name, field.default)
            kind: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else None
            parameters.append(_parameter(name, kind or field.annotation, default, form))
    return inspect.Signature(parameters)


def _form_parameter(option: Declaration) -> inspect.Parameter:
    form = Form(description=option.help or f"As {option.flag} of the tools before aigve.")
    kind = _annotation(option)
    if option.many:
        return _parameter(option.name, kind, [], form)
    default = UPLOAD_DEFAULTS.get(option.name, _default(option))
    return _parameter(option.name, kind if default is not None else kind | None, default, form)


def _parameter(name: str, kind: Any, default: Any, how: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, how]
    )
