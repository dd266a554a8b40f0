#!/usr/bin/env bash
# Check everything: shellcheck, ruff, mypy, pytest. The first run makes .venv; later ones need no network.
#
# Usage: bash run_tests.sh [PYTEST ARGUMENTS ...]      e.g. -k ply, -m "not browser", tests/scripts
#
# Tests whose tools are missing (a Chromium, a CUDA card, trained weights) skip and say why.

set -euo pipefail
trap 'exit 130' INT
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)

for argument in "$@"; do
  case $argument in
    -h | --help)
      sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
  esac
done

bash "$root/envs/setup_embedded.sh" dev
cd "$root"
export VIRTUAL_ENV=$root/.venv PATH="$root/.venv/bin:$PATH"

if command -v shellcheck >/dev/null; then shellcheck -x ./*.sh envs/*.sh .ci/run; fi
ruff check --quiet --output-format concise .
ruff format --check .
mypy --no-error-summary
# Two at a time, each with one torch thread: more would wait for each other on two cores. `-n 0` runs them in one process.
OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} pytest -q -n 2 --dist loadfile "$@"
