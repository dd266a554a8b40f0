# shellcheck shell=bash
# Functions that find and activate the Python environment of a stage. Source this file; it runs nothing itself.
#
#   activate_env NAME     activates, for the rest of this shell, the first of
#                           .venv                   the embedded profile's environment, if NAME is ".venv"
#                           $SAM3D_GS_VENVS/NAME    a venv made by a set-up script (default folder: .venvs)
#                           NAME                    a Conda, mamba or micromamba environment (a name or a path)
#                         or prints one line about what is missing and returns 1.
#   env_problem NAME      prints why a stage cannot run in NAME, nothing if it can. Activates nothing.
#   run_in_env NAME COMMAND...   runs one command in NAME without changing this shell.
#
# Settings: CONDA_SH (path of conda.sh), SAM3D_GS_VENVS, SAM3D_GS_ENV_VLLM, SAM3D_GS_ENV_SAM3, SAM3D_GS_ENV_SAM3D.

sam3d_gs_root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

SAM3D_GS_ENV_VLLM=${SAM3D_GS_ENV_VLLM:-vllm}
SAM3D_GS_ENV_SAM3=${SAM3D_GS_ENV_SAM3:-sam3}
SAM3D_GS_ENV_SAM3D=${SAM3D_GS_ENV_SAM3D:-sam3d-objects}

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

activate_env() {
  local activation_problem=''
  _activate "$1" && return
  say "Cannot use the environment \"$1\": $activation_problem Create it with envs/setup.sh (see README.md), choose" \
    "another one with SAM3D_GS_ENV_VLLM, SAM3D_GS_ENV_SAM3 or SAM3D_GS_ENV_SAM3D, or pass --profile embedded."
  return 1
}

env_problem() (
  activation_problem=''
  if ! _activate "$1" >/dev/null 2>&1; then
    printf '%s\n' "$activation_problem"
  elif ! _has_program; then
    _program_missing "$1"
  fi
)

# In a subshell, so that no environment leaks into the next.
run_in_env() (
  activate_env "$1" || exit
  [[ $2 != sam3d-gs ]] || _has_program || { say "$(_program_missing "$1")" && exit 1; }
  shift
  exec "$@"
)

_has_program() { [[ -x ${VIRTUAL_ENV:-${CONDA_PREFIX:-}}/bin/sam3d-gs ]]; }

_program_missing() {
  printf '%s\n' "The environment \"$1\" has no sam3d-gs: activate it and run \`pip install -e '$sam3d_gs_root'\`."
}

# Sets activation_problem if it fails.
_activate() {
  local venv
  unset PYTHONHOME
  export PYTHONNOUSERSITE=1 # packages in ~/.local must not shadow the environment's own
  if venv=$(_find_venv "$1"); then
    export VIRTUAL_ENV=$venv PATH="$venv/bin:$PATH"
    hash -r
  else
    unset VIRTUAL_ENV
    _load_conda && _conda_activate "$1"
  fi
}

_find_venv() {
  local venv=${SAM3D_GS_VENVS:-$sam3d_gs_root/.venvs}/$1
  [[ $1 != .venv ]] || venv=$sam3d_gs_root/.venv
  [[ -x $venv/bin/python ]] && (CDPATH='' cd -- "$venv" && pwd)
}

_conda_activate() {
  local reason
  _relaxed "$conda_command" activate "$1" 2>/dev/null && hash -r && return
  reason=$(_relaxed "$conda_command" activate "$1" 2>&1 | grep -m 1 . || true)
  activation_problem="${reason:-$conda_command activate $1 failed.}"
  [[ $activation_problem == *. ]] || activation_problem+=.
  return 1
}

# Defines conda (or micromamba) as a shell function and sets conda_command to its name.
_load_conda() {
  local script micromamba=${MAMBA_EXE:-micromamba}
  if [[ -n ${CONDA_SH:-} && ! -r $CONDA_SH ]]; then
    activation_problem="CONDA_SH is not a readable file ($CONDA_SH)."
    return 1
  elif script=$(_find_conda_sh); then
    conda_command=conda
    # shellcheck disable=SC1090
    _relaxed source "$script"
  elif command -v "$micromamba" >/dev/null; then
    conda_command=micromamba
    _relaxed eval "$("$micromamba" shell hook --shell bash)"
  else
    activation_problem='No such folder in .venvs, and no Conda found (set CONDA_SH to the path of conda.sh).'
    return 1
  fi
}

_find_conda_sh() {
  local base
  if [[ -n ${CONDA_SH:-} ]]; then
    printf '%s\n' "$CONDA_SH"
    return
  fi
  while IFS= read -r base; do
    if [[ -n $base && -r $base/etc/profile.d/conda.sh ]]; then
      printf '%s\n' "$base/etc/profile.d/conda.sh"
      return
    fi
  done < <(_conda_bases)
  return 1
}

# Folders where Conda may be installed, likeliest first, one per line.
_conda_bases() {
  local name
  if [[ -n ${CONDA_EXE:-} ]]; then dirname -- "$(dirname -- "$CONDA_EXE")"; fi
  if command -v conda >/dev/null; then conda info --base 2>/dev/null; fi
  for name in miniforge3 mambaforge miniconda3 anaconda3 conda; do
    if [[ -n ${HOME:-} ]]; then printf '%s\n' "$HOME/$name"; fi
    printf '%s\n' "/opt/$name" "/usr/local/$name"
  done
}

# Run a command with `set -u` off: Conda's scripts read unset variables.
_relaxed() {
  local code=0
  if [[ $- == *u* ]]; then
    set +u
    "$@" || code=$?
    set -u
  else
    "$@" || code=$?
  fi
  return "$code"
}
