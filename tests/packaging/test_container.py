"""The container without a container engine: its entry point as a process, and its files as text."""

from __future__ import annotations

import http.server
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from checkout import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.main import get_command

from aigve_cli.main import app as aigve_app

BASH = shutil.which("bash") or "bash"
ENTRYPOINT = ROOT / "entrypoint.sh"
PINS = ROOT / "docker" / "constraints.txt"
_ROOT_COMMAND: Any = get_command(aigve_app)
COMMANDS = _ROOT_COMMAND.commands

# Answers what the entry point asks Python, else writes down how it was called.
STAND_IN = f"""#!{BASH}
case ${{3:-}} in
  *secrets*) echo made-for-this-start; exit ;;
  *torch*) printf '{{"torch": "2.14.1", "cuda_available": %s}}\\n' "$GPU"; exit "$LOOK_CODE" ;;
esac
[ -z "${{WAIT:-}}" ] || trap 'exit 7' TERM
printf '%s\\0' "${{0##*/}}" "$$" "$PWD" "${{AIGVE_API_TOKEN-unset}}" \\
  "${{CUDA_VISIBLE_DEVICES-unset}}" "$@" >"$RECORD.part"
mv "$RECORD.part" "$RECORD"
while [ -n "${{WAIT:-}}" ]; do sleep 0.02; done
"""


class Ran(NamedTuple):
    """What the entry point ran, and what it said."""

    code: int
    stderr: str
    program: str
    """Empty where it ended before."""
    pid: int
    folder: Path
    token: str
    devices: str
    arguments: list[str]


class Container:
    """A root of the application and stand-ins for the programs in the image."""

    def __init__(self, root: Path) -> None:
        self.app = root / "app folder"
        self.record = root / "record"
        self.here = root / "here"
        programs = root / "programs"
        for folder in (self.app, self.here, programs):
            folder.mkdir()
        for name in ("aigve", "python", "python3", "bash", "sh"):
            (programs / name).write_text(STAND_IN)
            (programs / name).chmod(0o755)
        self.environment = {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "AIGVE_APP_ROOT": str(self.app),
            "RECORD": str(self.record),
            "GPU": "true",
            "LOOK_CODE": "0",
        }

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        self.record.unlink(missing_ok=True)
        return subprocess.Popen(
            [BASH, str(ENTRYPOINT), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.here,
            env={**self.environment, **environment},
        )

    def recorded(self) -> tuple[str, int, Path, str, str, list[str]]:
        if not self.record.exists():
            return "", 0, Path(), "", "", []
        program, pid, folder, token, devices, *rest = self.record.read_text().split("\0")[:-1]
        return program, int(pid), Path(folder), token, devices, rest

    def run(self, *arguments: str, **environment: str) -> Ran:
        with self.start(*arguments, **environment) as process:
            _, stderr = process.communicate(timeout=60)
        return Ran(process.returncode, stderr, *self.recorded())

    @property
    def server(self) -> list[str]:
        """The command line of a server without further flags."""
        roots = ["--allow-root", f"{self.app}/data", "--allow-root", f"{self.app}/out"]
        return ["serve", "--host", "0.0.0.0", "--port", "2200", *roots]

    @property
    def script(self) -> str:
        return f"{self.app}/scripts/prepare_annotations.py"


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(tmp_path)


# --- what is run ----------------------------------------------------------------------------------


def test_entry_point_may_be_run() -> None:
    assert os.access(ENTRYPOINT, os.X_OK)


@pytest.mark.parametrize(
    "given", [[], ["api"], ["serve"], ["api", "--workers", "2", "--log-level", "info"]]
)
def test_server(container: Container, given: list[str]) -> None:
    ran = container.run(*given)
    assert (ran.code, ran.program, ran.arguments) == (0, "aigve", [*container.server, *given[1:]])
    assert ran.folder == container.app, "an aigve.toml of a mounted folder would be read"


@pytest.mark.parametrize("command", ["api", "serve"])
def test_help_of_the_server_needs_nothing(container: Container, command: str) -> None:
    ran = container.run(command, "--help", GPU="false", PORT="none")
    assert (ran.code, ran.stderr) == (0, "")
    assert (ran.program, ran.arguments, ran.token) == ("aigve", ["serve", "--help"], "unset")


@pytest.mark.parametrize(
    "given",
    [
        ["--help"],
        ["-h"],
        ["--version"],
        ["list-metrics"],
        ["models", "fetch", "clip"],
        ["of-later"],
    ],
)
def test_command_line(container: Container, given: list[str]) -> None:
    ran = container.run(*given, GPU="false")
    assert (ran.code, ran.stderr) == (0, "")
    assert (ran.program, ran.arguments, ran.folder) == ("aigve", given, container.here)


@pytest.mark.parametrize(
    "given",
    [
        ["--list-metrics"],
        ["--list-metrics", "--compute"],
        ["--input-dir", "/app/data"],
        ["--input-dir=/app/data", "--stage-dataset", "/app/out/staged", "--link"],
        ["--input-dir", "/app/data", "--compute", "--dry-run"],
        ["--input-dir", "/app/data", "--compute", "--help"],
    ],
)
def test_flat_flags_that_score_nothing(container: Container, given: list[str]) -> None:
    ran = container.run(*given, GPU="false")
    assert (ran.code, ran.stderr) == (0, "")
    assert (ran.program, ran.arguments) == ("python", [container.script, *given])
    assert ran.folder == container.here


@pytest.mark.parametrize("program", ["aigve", "python", "python3", "bash", "sh"])
def test_program(container: Container, program: str) -> None:
    ran = container.run(program, "-q", "compute", GPU="false")
    assert (ran.code, ran.stderr) == (0, "")
    assert (ran.program, ran.arguments) == (program, ["-q", "compute"])


def test_program_by_its_path(container: Container) -> None:
    assert container.run(BASH, "-c", "exit 9").code == 9


@pytest.mark.parametrize("first", ["api", "prepare", "compute", "--input-dir", "python"])
def test_arguments_arrive_as_they_are(container: Container, first: str) -> None:
    odd = ["two words", "", "*", "$HOME", "it's", 'a "b"', "line\nbreak", "--", "-x=1 2", "ünï"]
    assert container.run(first, *odd).arguments[-len(odd) :] == odd


def test_every_command_is_passed_on_and_only_those_that_score_look_for_a_gpu(
    container: Container,
) -> None:
    looking = set()
    for name in COMMANDS:
        ran = container.run(name)
        assert (ran.program, ran.arguments[0]) == ("aigve", name)
        if "cuda_available" in ran.stderr:
            looking.add(name)
    assert looking == {"serve", "compute", "demo"}
    for name in looking:
        assert {"--use-cpu", "--device"} & flags(name)


def test_flags_of_the_server_exist() -> None:
    used = set(re.findall(r"--(?:host|port|allow-root|insecure)\b", ENTRYPOINT.read_text()))
    assert used == {"--host", "--port", "--allow-root", "--insecure"}
    assert used <= flags("serve")


def flags(command: str) -> set[str]:
    return {flag for parameter in COMMANDS[command].params for flag in parameter.opts}


# --- the port, the roots, the token ---------------------------------------------------------------


@pytest.mark.parametrize("port", ["1", "2200", "9000", "65535", "08080"])
def test_port(container: Container, port: str) -> None:
    for variable in ("PORT", "AIGVE_SERVER_PORT"):
        ran = container.run(**{variable: port})
        assert ran.code == 0
        assert ran.arguments[3:5] == ["--port", port]


@pytest.mark.parametrize("port", ["0", "65536", "99999999999999999999", "-1", "8 8", "http", "1.5"])
def test_port_that_is_none(container: Container, port: str) -> None:
    ran = container.run(PORT=port)
    assert (ran.code, ran.program) == (2, "")
    assert ran.stderr == (
        f"Error: PORT is '{port}'.\nHint: Allowed: whole numbers from 1 to 65535.\n"
    )


@pytest.mark.parametrize("given", [["--port", "9000"], ["--port=9000"]])
def test_port_as_a_flag_would_mislead_the_health_check(
    container: Container, given: list[str]
) -> None:
    ran = container.run("api", *given)
    assert (ran.code, ran.program) == (2, "")
    assert "Set the variable PORT" in ran.stderr


def test_roots_and_address_of_the_variables_count(container: Container) -> None:
    ran = container.run(AIGVE_SERVER_ALLOW_ROOT="/mnt/videos", AIGVE_SERVER_HOST="127.0.0.1")
    assert ran.arguments == ["serve", "--host", "127.0.0.1", "--port", "2200"]


@pytest.mark.parametrize("variables", [{}, {"AIGVE_API_TOKEN": ""}])
def test_token_is_made_and_shown_once(container: Container, variables: dict[str, str]) -> None:
    ran = container.run(**variables)
    assert ran.token == "made-for-this-start"
    assert ran.stderr.count(ran.token) == 1
    assert ran.token not in ran.arguments, "every user of the machine may read a command line"
    assert "Authorization: Bearer" in ran.stderr


def test_token_of_the_user_is_kept_and_not_shown(container: Container) -> None:
    ran = container.run(AIGVE_API_TOKEN="of my own")
    assert ran.token == "of my own"
    assert ran.token not in ran.stderr
    assert "AIGVE_API_TOKEN" not in ran.stderr


def test_no_token_where_none_is_wanted(container: Container) -> None:
    for ran in (
        container.run("api", "--insecure"),
        container.run(AIGVE_SERVER_INSECURE="1"),
        container.run(AIGVE_SERVER_INSECURE="true"),
    ):
        assert (ran.code, ran.token) == (0, "unset")
        assert "AIGVE_API_TOKEN" not in ran.stderr
    assert container.run(AIGVE_SERVER_INSECURE="0").token == "made-for-this-start"


@pytest.mark.parametrize("given", [["compute"], ["--input-dir", "x", "--compute"], ["python"]])
def test_only_a_server_has_a_token(container: Container, given: list[str]) -> None:
    ran = container.run(*given)
    assert (ran.code, ran.token) == (0, "unset")


# --- the GPU --------------------------------------------------------------------------------------

SCORING = [
    [],
    ["api", "--workers", "2"],
    ["compute", "--input-dir", "/app/data"],
    ["demo"],
    ["--input-dir", "/app/data", "--compute", "--metrics", "fid"],
]


@pytest.mark.parametrize("given", SCORING, ids=" ".join)
@pytest.mark.parametrize("required", [None, "", "1", "true", "YES", "0", "False", "no"])
@pytest.mark.parametrize("gpu", ["true", "false"])
def test_gpu_is_looked_for_before_scores(
    container: Container, given: list[str], required: str | None, gpu: str
) -> None:
    variables = {} if required is None else {"REQUIRE_GPU": required}
    ran = container.run(*given, GPU=gpu, **variables)
    first, *rest = ran.stderr.splitlines()
    assert json.loads(first)["cuda_available"] is (gpu == "true")
    if gpu == "false" and required in (None, "", "1", "true", "YES"):
        assert (ran.code, ran.program) == (4, "")
        error, hint = rest
        assert error.startswith("Error: no GPU")
        assert hint.startswith("Hint: ")
        assert "--gpus all" in hint
        assert "REQUIRE_GPU=0" in hint
    else:
        assert (ran.code, ran.program) == (0, "python" if "--input-dir" in given[:1] else "aigve")


@pytest.mark.parametrize("given", [["--use-cpu"], ["--device", "cpu"], ["--device=cpu"]])
def test_cpu_that_was_asked_for_needs_no_gpu(container: Container, given: list[str]) -> None:
    for start in (["compute"], ["demo"], ["--input-dir", "x", "--compute"], ["api"]):
        assert container.run(*start, *given, GPU="false").code == 0
        contradiction = container.run(*start, *given, REQUIRE_GPU="1")
        assert (contradiction.code, contradiction.program) == (2, "")
        assert "Hint: Set REQUIRE_GPU=0" in contradiction.stderr


@pytest.mark.parametrize(
    "given", [["--device", "cuda"], ["--prompt", "cpu"], ["--prompt", "a --use-cpu sign"]]
)
def test_words_that_only_look_like_a_wish_for_the_cpu(
    container: Container, given: list[str]
) -> None:
    assert container.run("compute", *given, GPU="false").code == 4


def test_commands_that_need_no_gpu_do_not_wait_for_torch(container: Container) -> None:
    for given in (["compute", "--help"], ["compute", "--dry-run"], ["demo", "-h"], ["doctor"]):
        ran = container.run(*given, GPU="false", REQUIRE_GPU="maybe")
        assert (ran.code, ran.stderr) == (0, "")


def test_requirement_that_cannot_be_read(container: Container) -> None:
    ran = container.run(REQUIRE_GPU="maybe")
    assert (ran.code, ran.program) == (2, "")
    assert ran.stderr.startswith("Error: REQUIRE_GPU is 'maybe'.\nHint: Allowed: 1, true, yes;")


def test_torch_that_does_not_import_is_no_missing_gpu(container: Container) -> None:
    ran = container.run(LOOK_CODE="1", REQUIRE_GPU="0")
    assert (ran.code, ran.program) == (4, "")
    assert "torch cannot be imported" in ran.stderr


def test_empty_list_of_devices_is_no_list(container: Container) -> None:
    assert container.run(CUDA_VISIBLE_DEVICES="").devices == "unset"
    assert container.run(CUDA_VISIBLE_DEVICES="1").devices == "1"


def test_facts_about_cuda_are_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    program = re.search(r"cuda_facts='\n(.*?)'\n", ENTRYPOINT.read_text(), re.DOTALL)
    assert program is not None
    exec(program.group(1), {})
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {
        "torch": torch.__version__,
        "cuda_available": torch.cuda.is_available(),
        "cuda_version": torch.version.cuda,
        "device_count": torch.cuda.device_count(),
    }


# --- signals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [["api"], ["compute"], ["--input-dir", "x"], ["python", "x"]])
def test_signals_reach_what_is_run(container: Container, given: list[str]) -> None:
    with container.start(*given, WAIT="1") as process:
        try:
            for _ in range(2000):
                if container.record.exists():
                    break
                time.sleep(0.01)
            assert container.recorded()[1] == process.pid, "a shell stands between"
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 7
        finally:
            process.kill()


# --- pinned packages ------------------------------------------------------------------------------

UBUNTU_24_04 = {"python_version": "3.12", "python_full_version": "3.12.3"}


def read_pins() -> dict[str, str]:
    """Version by canonical name."""
    pins = {}
    for line in PINS.read_text().splitlines():
        if line and not line.startswith("#"):
            pin = re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s;]+)", line)
            assert pin is not None, line
            name = canonicalize_name(pin.group(1))
            assert name not in pins, f"{name} is pinned twice"
            pins[name] = pin.group(2)
    return pins


def read_requirements() -> list[Requirement]:
    """What the package and its server ask for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["server"]]
    return [Requirement(line) for line in lines]


def is_met(requirement: Requirement, pins: dict[str, str]) -> bool:
    version = pins.get(canonicalize_name(requirement.name))
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def test_pins_are_what_the_package_asks_for() -> None:
    pins = read_pins()
    wrong = [
        str(requirement) for requirement in read_requirements() if not is_met(requirement, pins)
    ]
    assert wrong == [], "make docker/constraints.txt anew, as is written at its head"


def test_pins_are_what_the_pinned_packages_ask_for() -> None:
    pins = read_pins()
    needed: set[str] = set()
    unknown: set[str] = set()
    wrong = []
    waiting = read_requirements()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if not is_met(requirement, pins):
            wrong.append(str(requirement))
            continue
        key = f"{name}[{','.join(sorted(requirement.extras))}]"
        if key in needed:
            continue
        needed |= {key, name}
        try:
            installed = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            unknown.add(name)
            continue
        if installed.version != pins[name]:
            unknown.add(name)  # another version asks for other packages
            continue
        for text in installed.requires or []:
            inner = Requirement(text)
            if inner.marker is None or any(
                inner.marker.evaluate({**UBUNTU_24_04, "extra": extra})
                for extra in ("", *requirement.extras)
            ):
                waiting.append(inner)
    assert wrong == [], "make docker/constraints.txt anew, as is written at its head"
    # setuptools is needed only from Python 3.12 on, and needs nothing itself.
    if unknown <= {"setuptools"}:
        assert set(pins) - needed == set(), "nothing asks for these"


# --- Dockerfile and its context -------------------------------------------------------------------


def read_dockerfile() -> list[tuple[str, str]]:
    """Instructions and their arguments, each in one line."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (ROOT / "Dockerfile").read_text())
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def arguments_of(instruction: str) -> list[str]:
    return [rest for name, rest in read_dockerfile() if name == instruction]


def is_in_context(path: str) -> bool:
    """As .dockerignore says: the last line that matches the path or a folder above it decides."""
    included = True
    parents = ["/".join(path.split("/")[: n + 1]) for n in range(path.count("/") + 1)]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.lstrip("!")
        for parent in parents:
            candidates = [parent]
            if pattern.startswith("**/"):
                candidates = [parent.rsplit("/", 1)[-1]]
            elif pattern.count("/") != parent.count("/"):
                continue
            if any(fnmatchcase(one, pattern.removeprefix("**/")) for one in candidates):
                included = line.startswith("!")
    return included


def taken_from_context() -> set[str]:
    """Every path of the repository that the Dockerfile names."""
    copied = {
        source
        for rest in arguments_of("COPY")
        for source in [word for word in rest.split() if not word.startswith("--")][:-1]
    }
    mounts = " ".join(arguments_of("RUN"))
    return copied | set(re.findall(r"type=bind,source=([^,\s]+)", mounts))


def test_context_holds_what_the_dockerfile_takes() -> None:
    taken = taken_from_context()
    assert {"entrypoint.sh", "scripts", "server", "docker/constraints.txt"} <= taken
    for path in taken:
        assert (ROOT / path).exists(), path
        assert is_in_context(path), path


def test_context_holds_what_the_package_is_built_from() -> None:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = table["tool"]["hatch"]["build"]["targets"]["wheel"]
    project = table["project"]
    sources = ["pyproject.toml", project["readme"], *project["license-files"]]
    for path in [*sources, *wheel["packages"], *wheel["shared-data"]]:
        assert (ROOT / path).exists(), path
        assert is_in_context(path), path
    for package in wheel["packages"]:
        for file in (ROOT / package).rglob("*"):
            path = file.relative_to(ROOT).as_posix()
            assert is_in_context(path) is ("__pycache__" not in path), path


@pytest.mark.parametrize(
    "path", [".env", ".git", ".git/config", ".venv", "tests", "data", "out/x.json", "weights/a.pth"]
)
def test_context_holds_nothing_else(path: str) -> None:
    assert not is_in_context(path)


def test_image_is_pinned_and_not_root() -> None:
    (base,) = arguments_of("FROM")
    assert re.fullmatch(r"nvidia/cuda:\d+\.\d+\.\d+-base-ubuntu24\.04", base)
    assert arguments_of("USER") == ["1000:1000"]
    assert "--uid 1000" in " ".join(arguments_of("RUN"))
    assert arguments_of("EXPOSE") == ["2200"]
    assert arguments_of("STOPSIGNAL") == ["SIGTERM"]
    assert arguments_of("ENTRYPOINT") == ['["/app/entrypoint.sh"]']
    assert arguments_of("CMD") == ['["api"]']


def test_cuda_of_the_image_is_that_of_the_pinned_torch() -> None:
    (base,) = arguments_of("FROM")
    release = re.search(r":([\d.]+)-", base)
    assert release is not None
    assert read_pins()["cuda-toolkit"].startswith(release.group(1))


def folders_of_the_image() -> set[str]:
    (made,) = [rest for rest in arguments_of("RUN") if "install --directory" in rest]
    return set(re.findall(r"/app/\w+", made.partition("install --directory")[2]))


def test_what_is_fetched_and_kept_is_below_a_folder_of_the_image() -> None:
    assert folders_of_the_image() == {"/app/data", "/app/out", "/app/state", "/app/weights"}
    variables = dict(re.findall(r"(\w+)=(\S+)", " ".join(arguments_of("ENV"))))
    for name in ("AIGVE_WEIGHTS_DIR", "AIGVE_CACHE_DIR", "HF_HOME"):
        assert f"{variables[name]}/".startswith("/app/weights/")
    assert variables["AIGVE_SERVER_STATE_DIR"] == "/app/state"
    assert arguments_of("WORKDIR") == ["/app/out"]


# --- the health check -----------------------------------------------------------------------------


class _Server(http.server.BaseHTTPRequestHandler):
    health = 200

    def do_GET(self) -> None:
        self.send_response(self.health if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def healthy_port() -> Iterator[int]:
    with http.server.HTTPServer(("127.0.0.1", 0), _Server) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def health(**environment: str) -> int:
    """The exit code of the image's health check."""
    (check,) = arguments_of("HEALTHCHECK")
    command = json.loads(check.partition("CMD ")[2])
    assert command[0] == "python"
    environment = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"} | (
        environment
    )
    return subprocess.run(
        [sys.executable, *command[1:]], env=environment, capture_output=True, check=False
    ).returncode


def test_health_check(healthy_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert health(PORT=str(healthy_port)) == 0
    assert health(PORT="", AIGVE_SERVER_PORT=str(healthy_port)) == 0
    monkeypatch.setattr(_Server, "health", 503)
    assert health(PORT=str(healthy_port)) == 1
    assert health(PORT="9") == 1


# --- compose --------------------------------------------------------------------------------------

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["aigve", "aigve-cpu"])
def test_compose_agrees_with_the_image(name: str) -> None:
    service = COMPOSE["services"][name]
    (port,) = service["ports"]
    assert re.fullmatch(r"127\.0\.0\.1:\$\{AIGVE_PORT:-2200\}:2200", port)
    mounts = {volume["target"]: volume for volume in service["volumes"]}
    assert set(mounts) == folders_of_the_image()
    assert {v["source"] for v in mounts.values() if v["type"] == "volume"} == set(
        COMPOSE["volumes"]
    )
    assert [target for target, volume in mounts.items() if volume.get("read_only")] == ["/app/data"]
    assert service["restart"] == "unless-stopped"
    assert "healthcheck" not in service, "the image has one"
    assert service["environment"]["AIGVE_API_TOKEN"] == "${AIGVE_API_TOKEN:-}"


def test_compose_reserves_gpus_where_one_is_required() -> None:
    gpu, cpu = COMPOSE["services"]["aigve"], COMPOSE["services"]["aigve-cpu"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert "deploy" not in cpu
    assert cpu["environment"]["REQUIRE_GPU"] == "0"
    assert "profiles" not in gpu
    assert cpu["profiles"] == ["cpu"]


# --- linters --------------------------------------------------------------------------------------


def lint(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a linter of the test group, which is there for some platforms only."""
    binary = Path(sys.executable).with_name(program)
    if not binary.exists():
        pytest.skip(f"{program} is not installed")
    return subprocess.run(
        [str(binary), *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, check=False
    )


def test_hadolint_has_no_complaint() -> None:
    done = lint("hadolint", "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


def test_shellcheck_has_no_complaint() -> None:
    done = lint("shellcheck", "entrypoint.sh", "setup_env.sh", ".ci/run")
    assert (done.returncode, done.stdout) == (0, "")
