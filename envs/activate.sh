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
# Settings: CONDA_SH (path of conda.sh), MAMBA_EXE (path of mamba or micromamba), SAM3D_GS_VENVS, SAM3D_GS_ENV_VLLM,
# SAM3D_GS_ENV_SAM3, SAM3D_GS_ENV_SAM3D.

[ -n "${BASH_VERSION:-}" ] || { echo 'envs/activate.sh needs bash: start bash, then source it again.' >&2 && return 1; }

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
    _conda_activate "$1"
  fi
}

_find_venv() {
  local venv=${SAM3D_GS_VENVS:-$sam3d_gs_root/.venvs}/$1
  [[ $1 != .venv ]] || venv=$sam3d_gs_root/.venv
  [[ -x $venv/bin/python ]] && (CDPATH='' cd -- "$venv" && pwd)
}

# Tries each tool that is installed: an environment's name is known only to the tool that made it.
_conda_activate() {
  local tool reason=''
  if _conda_sh_is_wrong; then
    activation_problem="CONDA_SH is not a readable file ($CONDA_SH)."
    return 1
  fi
  for tool in conda "${MAMBA_EXE:-}" mamba micromamba; do
    _load_tool "$tool" || continue
    _relaxed "$conda_command" activate "$1" 2>/dev/null && hash -r && return
    reason=${reason:-$(_relaxed "$conda_command" activate "$1" 2>&1 | grep -m 1 . || true)}
    reason=${reason:-$conda_command activate $1 failed.}
  done
  activation_problem=${reason:-No such folder in .venvs, and no Conda found (set CONDA_SH to the path of conda.sh).}
  [[ $activation_problem == *. ]] || activation_problem+=.
  return 1
}

# _load_tool TOOL: defines conda, mamba or micromamba (its name, or a path) as a shell function and sets conda_command
# to the function's name. Returns 1 if it is not installed.
_load_tool() {
  local script program name
  if [[ $1 == conda ]]; then
    script=$(_find_conda_sh) || return
    conda_command=conda
    # shellcheck disable=SC1090
    _relaxed source "$script"
    return
  fi
  program=$1
  if [[ -n ${MAMBA_EXE:-} && ${MAMBA_EXE##*/} == "$1" ]]; then program=$MAMBA_EXE; fi
  program=$(type -P -- "$program") && script=$("$program" shell hook --shell bash 2>/dev/null) || return
  _relaxed eval "$script"
  for name in "${1##*/}" mamba micromamba; do # the function has the program's name, or in older versions micromamba
    conda_command=${name%.exe}
    if declare -F "$conda_command" >/dev/null; then return; fi
  done
  return 1
}

_conda_sh_is_wrong() { [[ -n ${CONDA_SH:-} && ! -r $CONDA_SH ]]; }

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
  done <<<"$(_conda_bases)" # not <( ), which a bash that is called sh cannot read
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
