#!/usr/bin/env bash
# Makes a virtual environment and installs aigve in it; --help says the rest.
set -euo pipefail

repo=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
env_name=.venv
groups=()
run_demo=no
run_tests=no

usage() {
  cat <<'TEXT'
Usage: bash setup_env.sh [OPTIONS]

  Make a virtual environment and install aigve in it. Running it again brings the
  environment up to date, which is quick where nothing has changed. Installing takes a few
  minutes and about 6 GB, nearly all of it torch with CUDA.

Options:
  --env-name NAME  Folder of the environment, relative to this repository.
                   [default: .venv]
  --demo           Set up if needed, then score sample videos. Needs no network once
                   installed. The videos stay in ./aigve-demo.
  --test           Set up if needed, with what the tests need, then run the tests.
  --dev            Add the tools of development: tests, ruff, mypy, build.
  --with-nlp       Add optional language packages. There are none in this version.
  --cpu            Refused: the same installation runs on the CPU, with --use-cpu.
  --help           Show this message and exit.

Environment:
  PYTHON           The Python to use. [default: the first of python3.13, python3.12,
                   python3.11, python3, python that is 3.11 or newer]
TEXT
}

say() { printf '%s\n' "$*"; }

# fail EXIT-CODE MESSAGE [HINT]
fail() {
  printf 'Error: %s\n' "$2" >&2
  [ $# -lt 3 ] || printf 'Hint: %s\n' "$3" >&2
  exit "$1"
}

while [ $# -gt 0 ]; do
  case $1 in
    --env-name)
      [ $# -ge 2 ] || fail 2 '--env-name needs a folder.'
      env_name=$2
      shift
      ;;
    --env-name=*) env_name=${1#*=} ;;
    --demo) run_demo=yes ;;
    --test) groups+=(test) run_tests=yes ;;
    --dev) groups+=(dev) ;;
    --with-nlp) say '--with-nlp: this version has no language packages; nothing to add.' ;;
    --cpu)
      fail 2 '--cpu: there is no CPU-only installation. The packaged CUDA build also runs on the CPU, and a CPU-only torch cannot import the torchvision of the package index.' \
        'Install without --cpu, then give aigve --use-cpu.'
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    *)
      printf 'Error: unknown option: %s\n\n' "$1" >&2
      usage >&2
      exit 2
      ;;
  esac
  shift
done

case $env_name in
  '' | -*) fail 2 "--env-name '$env_name': expected the name of a folder." ;;
  /*) env=$env_name ;;
  *) env=$repo/$env_name ;;
esac

# A Python elsewhere on the path, or an installation into the home folder, would count as
# "already satisfied" here.
unset PYTHONPATH PYTHONHOME
export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1

# --- a Python ---------------------------------------------------------------------------------

is_new_enough() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# A version manager's stand-in may be on the path and not run, and Debian's python lacks ensurepip
# until python3-venv is installed: only a try tells.
find_python() {
  local candidate without_venv=
  for candidate in ${PYTHON:+"$PYTHON"} ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
    if is_new_enough "$candidate"; then
      if "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        python=$candidate
        return
      fi
      without_venv=${without_venv:-$candidate}
    fi
  done
  if [ -n "$without_venv" ]; then
    fail 4 "$without_venv cannot make virtual environments: its modules venv or ensurepip are missing." \
      'On Debian and Ubuntu: apt install python3-venv.'
  fi
  if [ -n "${PYTHON:-}" ]; then
    fail 4 "PYTHON=$PYTHON is not a Python 3.11 or newer that runs."
  fi
  fail 4 'no Python 3.11 or newer was found.' \
    'Install one, or name it: PYTHON=/path/to/python3.12 bash setup_env.sh'
}

# --- its environment --------------------------------------------------------------------------

make_environment() {
  if [ -f "$env/pyvenv.cfg" ]; then
    is_new_enough "$env/bin/python" ||
      fail 4 "$env is a virtual environment, but its Python does not run or is older than 3.11." \
        'Delete that folder yourself, or choose another --env-name.'
  elif [ -e "$env" ] && { [ ! -d "$env" ] || [ -n "$(ls -A -- "$env")" ]; }; then
    fail 2 "$env exists and is not a virtual environment; it is left alone." \
      'Choose another --env-name.'
  else
    find_python
    say "Making $env with $("$python" --version) …"
    "$python" -m venv --without-pip -- "$env"
    # As Python 3.13 does: an environment in the repository is not a part of it.
    printf '*\n' >"$env/.gitignore"
  fi
  # Also mends an environment whose making was interrupted.
  "$env/bin/python" -m pip --version >/dev/null 2>&1 || "$env/bin/python" -m ensurepip >/dev/null
}

# --- its packages -----------------------------------------------------------------------------

# What an installation depends on, in one number: if it has not changed, pip is not asked.
fingerprint() {
  cat -- "$repo/pyproject.toml" "$repo/aigve_cli/__init__.py" "$repo"/completions/* |
    cksum | tr ' ' -
  printf '%s\n' "$repo"
}

is_installed() {
  local group
  [ -x "$env/bin/aigve" ] || return 1
  for group in base ${groups[@]+"${groups[@]}"}; do
    [ "$(cat -- "$env/.aigve/$group" 2>/dev/null)" = "$1" ] || return 1
  done
}

install_packages() {
  local now group quiet=--quiet arguments=() start=$SECONDS
  now=$(fingerprint)
  if is_installed "$now"; then
    return
  fi
  [ -t 1 ] && quiet=
  for group in ${groups[@]+"${groups[@]}"}; do
    arguments+=(--group "$group")
  done
  say 'Installing aigve and what it needs; the first time takes a few minutes …'
  (
    cd -- "$repo"
    # --group came with pip 25.1.
    "$env/bin/python" -m pip install $quiet 'pip>=25.1'
    "$env/bin/python" -m pip install $quiet --editable '.[server]' ${arguments[@]+"${arguments[@]}"}
  )
  mkdir -p -- "$env/.aigve"
  for group in base ${groups[@]+"${groups[@]}"}; do
    printf '%s\n' "$now" >"$env/.aigve/$group"
  done
  say "Installed in $((SECONDS - start)) s."
}

look_at_it() {
  local activate=$env/bin/activate check status found
  say
  "$env/bin/aigve" --version
  (cd -- "$repo" && "$env/bin/aigve" doctor --format tsv) |
    while IFS=$'\t' read -r check status found; do
      [ "$check" = check ] || printf '%-28s%-7s%s\n' "$check" "$status" "$found"
    done
  say
  say "Ready. To use it: source ${activate#"$PWD"/}, then aigve --help"
}

make_environment
install_packages
look_at_it
if [ $run_demo = yes ]; then
  say
  "$env/bin/aigve" demo
fi
if [ $run_tests = yes ]; then
  say
  # glibc gives pages of pictures back to the system, which clears them for the next one: some 7 %
  # of the time of a short run.
  export MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=536870912
  # A file's tests share what is dear to make, and stay with one worker; each may take 5 GB. In the
  # files' own order, since those of few tests are the longest.
  workers=(-n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder)
  (cd -- "$repo" && "$env/bin/python" -m pytest "${workers[@]}")
fi
