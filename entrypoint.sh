#!/usr/bin/env bash
# What the container runs: the server, a command of aigve, the flat flags of before, or a program.
set -euo pipefail

app=${AIGVE_APP_ROOT:-/app}

# -I: whatever lies in the current folder, a mounted one, is not Python's to import.
cuda_facts='
import json, torch
print(json.dumps({
    "torch": torch.__version__,
    "cuda_available": torch.cuda.is_available(),
    "cuda_version": torch.version.cuda,
    "device_count": torch.cuda.device_count(),
}))'

# fail EXIT-CODE MESSAGE HINT
fail() {
  printf 'Error: %s\nHint: %s\n' "$2" "$3" >&2
  exit "$1"
}

# is_among WORD ARGUMENT…
is_among() {
  local word=$1 argument
  shift
  for argument; do
    [ "$argument" != "$word" ] || return 0
  done
  return 1
}

# Whether these arguments ask for words, and nothing is scored.
only_tells() {
  is_among --help "$@" || is_among -h "$@" || is_among --dry-run "$@" ||
    is_among --list-metrics "$@"
}

asks_for_cpu() {
  local argument previous=
  for argument; do
    case $argument in
      --use-cpu | --device=cpu) return 0 ;;
      cpu) [ "$previous" != --device ] || return 0 ;;
    esac
    previous=$argument
  done
  return 1
}

# look_at_gpu ARGUMENT… : one line of facts before anything is scored with these arguments, and the
# end where there is no GPU. REQUIRE_GPU is 1 where it is not set; --use-cpu contradicts only one
# that is.
look_at_gpu() {
  local facts required
  case ${REQUIRE_GPU:-1} in
    1 | [Tt][Rr][Uu][Ee] | [Yy][Ee][Ss]) required=yes ;;
    0 | [Ff][Aa][Ll][Ss][Ee] | [Nn][Oo]) required=no ;;
    *) fail 2 "REQUIRE_GPU is '$REQUIRE_GPU'." 'Allowed: 1, true, yes; 0, false, no.' ;;
  esac
  if asks_for_cpu "$@"; then
    if [ $required = yes ] && [ -n "${REQUIRE_GPU:-}" ]; then
      fail 2 "REQUIRE_GPU=$REQUIRE_GPU wants a GPU, and --use-cpu wants none." \
        'Set REQUIRE_GPU=0 to compute on the CPU.'
    fi
    required=no
  fi
  facts=$(python -I -c "$cuda_facts") ||
    fail 4 'torch cannot be imported; Python says above why.' 'Build the image again.'
  printf '%s\n' "$facts" >&2
  case $facts in
    *'"cuda_available": true'*) return ;;
  esac
  [ $required = no ] || fail 4 'no GPU can be used in this container.' \
    'Start it with --gpus all, or with REQUIRE_GPU=0 to compute on the CPU.'
}

# insecure FLAG… : whether the server was told to ask for no token, by a flag or by its variable.
insecure() {
  case ${AIGVE_SERVER_INSECURE:-} in
    '' | 0 | [Ff][Aa][Ll][Ss][Ee] | [Nn][Oo] | [Oo][Ff][Ff]) is_among --insecure "$@" ;;
  esac
}

make_token() {
  AIGVE_API_TOKEN=$(python -I -c 'import secrets; print(secrets.token_urlsafe(32))')
  export AIGVE_API_TOKEN
  cat >&2 <<TEXT
AIGVE_API_TOKEN is not set. The token of this start of the server:

  $AIGVE_API_TOKEN

Requests send it in a header, 'Authorization: Bearer TOKEN'. Set AIGVE_API_TOKEN to one of your own,
and it stays the same when the container starts again.
TEXT
}

# serve FLAG… : the server in place of this script, so that signals reach it.
serve() {
  local argument port=${PORT:-${AIGVE_SERVER_PORT:-2200}} roots=()
  if only_tells "$@"; then
    exec aigve serve "$@"
  fi
  for argument; do
    case $argument in
      --port | --port=*)
        fail 2 "$argument: the image's health check would ask another port." \
          'Set the variable PORT, or publish the port 2200 as another.'
        ;;
    esac
  done
  if ! [[ $port =~ ^[0-9]{1,5}$ ]] || ((10#$port < 1 || 10#$port > 65535)); then
    fail 2 "PORT is '$port'." 'Allowed: whole numbers from 1 to 65535.'
  fi
  look_at_gpu "$@"
  if [ -z "${AIGVE_API_TOKEN:-}" ] && ! insecure "$@"; then
    make_token
  fi
  # Flags win over the variable, and one that was set would be passed over.
  if [ -z "${AIGVE_SERVER_ALLOW_ROOT:-}" ]; then
    roots=(--allow-root "$app/data" --allow-root "$app/out")
  fi
  # The current folder may be one that requests write to, and an aigve.toml in it would be read.
  cd -- "$app"
  exec aigve serve --host "${AIGVE_SERVER_HOST:-0.0.0.0}" --port "$port" "${roots[@]}" "$@"
}

# No GPU at all is seldom what an empty value means: compose files set it from a variable.
[ -n "${CUDA_VISIBLE_DEVICES-unset}" ] || unset CUDA_VISIBLE_DEVICES

case ${1:-api} in
  api | serve)
    serve "${@:2}"
    ;;
  -h | --help | --version)
    exec aigve "$@"
    ;;
  aigve | python | python3 | bash | sh | /*)
    exec "$@"
    ;;
  -*)
    if is_among --compute "$@" && ! only_tells "$@"; then
      look_at_gpu "$@"
    fi
    exec python "$app/scripts/prepare_annotations.py" "$@"
    ;;
  compute | demo)
    only_tells "$@" || look_at_gpu "$@"
    exec aigve "$@"
    ;;
  *)
    exec aigve "$@"
    ;;
esac
