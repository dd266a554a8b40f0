#!/usr/bin/env bash
# Create or update .venv, the environment of the embedded profile; does nothing if it is up to date.
#
# Usage: bash envs/setup_embedded.sh [EXTRA ...]      extras of pyproject.toml besides `embedded`, e.g. dev
#
# PYTHON is the Python to use (3.10 to 3.14; default: the newest of python3.13 ... python3.10, then python3).
# Writes .venv and .cache/setup_embedded.log. After an interrupted set-up, .venv is created from scratch. Only one
# set-up runs at a time; a second one waits.

# Every other shell hands over to bash.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"
set +o posix
set -euo pipefail
trap 'exit 130' INT

here=$(dirname -- "$(readlink -f -- "$0" 2>/dev/null || printf '%s\n' "$0")") # also through a symlink
# shellcheck source=envs/usage.sh
source "$here/usage.sh"
names_only "$@"
root=$(CDPATH='' cd -- "$here/.." && pwd)
venv=$root/.venv
# A file per installed extra; `made`; `installing` during the set-up; `adopted` if we did not create .venv.
state=$venv/.sam3d_gs
log=$root/.cache/setup_embedded.log
torch=torch==2.13.0
torchvision=torchvision==0.28.0 # matches torch; transformers' SAM 3 needs it, so for the extras `sam3` and `dev`
extras=(embedded "$@")
wheels=("$torch")
if [[ " $* " =~ ' '(dev|sam3)' ' ]]; then wheels+=("$torchvision"); fi
pip=("$venv/bin/python" -m pip --disable-pip-version-check --no-input)

unset PYTHONHOME
export PIP_USER=0 # a pip.conf that asks for ~/.local would make pip fail

# shellcheck source=envs/steps.sh
source "$root/envs/steps.sh"

# The folder and the Python that the environment was created for; if either changes, it is created again.
origin() { printf '%s\n' "$root" && "$venv/bin/python" -I -S -c 'import sys; print(sys.version)' 2>/dev/null; }

# Everything an extra is installed from.
recipe() { printf '%s\n' "$torch" "$torchvision" "$(<"$root/pyproject.toml")"; }

sound() { [[ ! -e $state/installing ]] && holds "$state/made" "$(origin)"; }

up_to_date() {
  local extra
  sound || return 1
  for extra in "${extras[@]}"; do
    holds "$state/$extra" "$(recipe)" || return 1
  done
}

find_python() {
  local candidate no_venv='' candidates=(python3.13 python3.12 python3.11 python3.10 python3)
  [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1 || continue
    if "$candidate" -c 'import venv, ensurepip' >/dev/null 2>&1; then
      printf '%s\n' "$candidate"
      return
    fi
    no_venv=${no_venv:-$candidate}
  done
  if [[ -n $no_venv ]]; then
    die "$no_venv cannot create environments. On Debian and Ubuntu: apt install python3-venv; then try again."
  fi
  die "${PYTHON:-python3} is not Python 3.10 to 3.14. Install one, or set PYTHON: PYTHON=/path/to/python3 bash ${0##*/}"
}

# On Linux x86_64 pip's default torch comes with gigabytes of CUDA libraries, so uv installs the CPU build. If pip is
# configured with its own sources of packages, it is used instead.
install_torch() {
  local config
  config=$("${pip[@]}" config list)
  if [[ $(uname -sm) != 'Linux x86_64' || $config =~ (find-links|extra-index-url|no-index)= ]]; then
    "${pip[@]}" install "${wheels[@]}"
  elif "${pip[@]}" install uv &&
    "$venv/bin/uv" pip install --python "$venv/bin/python" --torch-backend=cpu "${wheels[@]}"; then
    :
  else
    say 'WARNING: uv could not install the CPU build of torch; pip installs the default build (gigabytes).' 2>&3
    "${pip[@]}" install "${wheels[@]}"
  fi
}

make_venv() {
  local python
  python=$(find_python)
  say "Creating $venv with $python (only once; takes minutes) ..."
  mkdir -p -- "$state"
  touch -- "$state/installing" # until the end: marks an interrupted set-up, even here, as ours and broken
  find "$venv" -mindepth 1 -maxdepth 1 ! -path "$state" -exec rm -rf -- {} +
  find "$state" -type f ! -name installing -exec rm -f -- {} +
  step environment "$python" -m venv "$venv"
}

set_up() {
  local extra names
  if [[ -x $venv/bin/python && ! -d $state ]]; then
    say "Installing into the existing $venv."
    mkdir -p -- "$state"
    touch -- "$state/adopted"
  elif [[ -e $state/adopted ]]; then
    "$venv/bin/python" -c '' || die "$venv/bin/python does not run. Delete $venv and try again."
  elif ! sound; then
    make_venv
  fi
  touch -- "$state/installing"
  origin >"$state/made"
  step torch install_torch
  names=$(IFS=,; printf '%s' "${extras[*]}")
  step "sam3d_gs[$names]" "${pip[@]}" install -e "${root}[$names]"
  for extra in "${extras[@]}"; do
    recipe >"$state/$extra"
  done
  rm -f -- "$state/installing"
  say "$venv is ready (${SECONDS} s)."
}

if up_to_date; then exit 0; fi

mkdir -p -- "$root/.cache"
one_at_a_time "$root/.cache/setup_embedded.lock"
if up_to_date; then exit 0; fi
exec 3>&2
: >"$log"
set_up
