#!/usr/bin/env bash
# Run all checks: shellcheck, ruff, mypy, pytest. The first run creates .venv; later runs need no network.
#
# Usage: bash run_tests.sh [PYTEST ARGUMENTS ...]            e.g. -k ply, -m "not browser", tests/scripts
#        bash run_tests.sh --fast [PYTEST ARGUMENTS ...]     a minute at most, for every save: shellcheck, ruff, and the
#                                                            tests not marked slow; says how many it left out
#        bash run_tests.sh --servers [PYTEST ARGUMENTS ...]  only the tests that start real servers
#        bash run_tests.sh --mutation [--sample N] [MODULE ...]  change the code, see whether a test fails, print the score
#                                                            and what survived; --mutation --help has all options
#
# Tests that need something missing (Chromium, an NVIDIA GPU, trained weights) are skipped with a reason. --servers
# creates another environment, .venvs/test-servers, with vLLM for the CPU (4 GB), or uses SAM3D_GS_TEST_SERVERS.
# All mutants together take hours; results are kept in .cache/mutation, so a stopped run can be resumed.

# Every other shell hands over to bash.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"
set +o posix
set -euo pipefail
trap 'exit 130' INT
here=$(dirname -- "$(readlink -f -- "$0" 2>/dev/null || printf '%s\n' "$0")") # also through a symlink
root=$(CDPATH='' cd -- "$here" && pwd)
# shellcheck source=envs/usage.sh
source "$root/envs/usage.sh"

fast='' servers=''
for argument in "$@"; do
  case $argument in
    --mutation) break ;; # its own help
    -h | --help)
      print_usage
      exit 0
      ;;
    --fast) fast=yes ;;
    --servers) servers=yes ;;
  esac
done

extras=(dev)
if [[ ${1:-} == --mutation ]]; then extras+=(mutation); fi
bash "$root/envs/setup_embedded.sh" "${extras[@]}"
cd "$root"
export VIRTUAL_ENV=$root/.venv PATH="$root/.venv/bin:$PATH"

if [[ ${1:-} == --mutation ]]; then
  exec python -m tests.mutation "${@:2}"
fi

if [[ -n $servers ]]; then
  export SAM3D_GS_TEST_SERVERS=${SAM3D_GS_TEST_SERVERS:-$root/.venvs/test-servers}
  bash tests/servers/make_environment.sh "$SAM3D_GS_TEST_SERVERS"
  pytest -q "$@"
  exit
fi

if command -v shellcheck >/dev/null; then shellcheck -x ./*.sh envs/*.sh tests/servers/*.sh .ci/run; fi
ruff check --quiet --output-format concise .
ruff format --check .
if [[ -z $fast ]]; then mypy --no-error-summary; fi
# Two processes with one torch thread each, for two cores. `-n 0` runs all tests in one process.
OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} pytest -q -n 2 --dist worksteal "$@"
