#!/usr/bin/env bash
# Create or update the environments of the full profile; does nothing if they are up to date.
#
# Usage: bash envs/setup.sh [--env NAME] ... [--with conda|mamba|micromamba|venv]
#
#   --env vllm           phrases: Qwen3-VL on vLLM
#   --env sam3           masks: SAM 3
#   --env native         objects and scene: SAM 3D Objects in plain PyTorch, nothing to compile
#   --env sam3d-objects  the same plus the official package, partly compiled here; only with Conda on Linux
#
# Without --env: vllm, sam3 and native, each with gigabytes of CUDA libraries. native and sam3d-objects are two forms of
# the same environment, "sam3d-objects". Without --with: mamba or conda, else micromamba, else venv (.venvs/NAME; needs
# the Python version in envs/NAME.yml).
# Also fetches the pinned upstream code that an environment needs, and keeps results in its folder.
# Settings: SAM3D_GS_ENV_VLLM, SAM3D_GS_ENV_SAM3, SAM3D_GS_ENV_SAM3D (other names), SAM3D_GS_VENVS, CONDA_SH,
# MAMBA_EXE, PYTHON.

# Every other shell hands over to bash.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"
set +o posix
set -euo pipefail
trap 'exit 130' INT

here=$(dirname -- "$(readlink -f -- "$0" 2>/dev/null || printf '%s\n' "$0")") # also through a symlink
# shellcheck source=envs/activate.sh
source "$here/activate.sh"
# shellcheck source=envs/usage.sh
source "$here/usage.sh"
# shellcheck source=envs/steps.sh
source "$sam3d_gs_root/envs/steps.sh"

root=$sam3d_gs_root
export PIP_USER=0 CONDA_ALWAYS_YES=true MAMBA_ALWAYS_YES=true

usage() {
  say "$* See bash envs/setup.sh --help."
  exit 2
}

# The name of a recipe's environment.
name_of() {
  case $1 in
    vllm) printf '%s\n' "$SAM3D_GS_ENV_VLLM" ;;
    sam3) printf '%s\n' "$SAM3D_GS_ENV_SAM3" ;;
    native | sam3d-objects) printf '%s\n' "$SAM3D_GS_ENV_SAM3D" ;;
    *) return 1 ;;
  esac
}

# The first tool that activate.sh tries; mamba is a faster way to create Conda environments.
choose_tool() {
  local candidate
  for candidate in conda "${MAMBA_EXE:-}" mamba micromamba; do
    if _load_tool "$candidate"; then
      tool=$conda_command
      if [[ $tool == conda ]] && command -v mamba >/dev/null; then tool=mamba; fi
      return
    fi
  done
  tool=venv
}

# The folder of an environment; fails if there is none.
prefix_of() (
  _activate "$1" >/dev/null 2>&1 && printf '%s\n' "${VIRTUAL_ENV:-$CONDA_PREFIX}"
)

# Everything an environment is made from; recorded in its folder to tell whether it is up to date.
ingredients() {
  printf '%s\n' "$root" "$recipe"
  cat -- "$root/envs/$recipe".yml "$root/envs/$recipe".txt "$root/pyproject.toml"
  [[ $recipe != sam3d-objects ]] || cat -- "$root/envs/sam3d-objects-build.txt"
}

up_to_date() {
  local prefix
  prefix=$(prefix_of "$name") && holds "$prefix/.sam3d_gs" "$(ingredients)" && [[ -z $(env_problem "$name") ]]
}

has_official() {
  local prefix
  prefix=$(prefix_of "$name") && [[ -f $prefix/.sam3d_gs ]] && grep -qx sam3d-objects "$prefix/.sam3d_gs"
}

in_env() { run_in_env "$name" "$@"; }
conda_tool() (cd -- "$root/envs" && _relaxed "$tool" "$@") # the .yml files refer to their .txt by a relative path
pip_install() { in_env python -m pip --disable-pip-version-check --no-input install "$@"; }

make_venv() {
  local version python venv=${SAM3D_GS_VENVS:-$root/.venvs}/$name
  if [[ ! -x $venv/bin/python ]]; then
    version=$(sed -n 's/^ *- python=//p' "$root/envs/$recipe.yml")
    python=${PYTHON:-python$version}
    "$python" -c 'import venv, ensurepip' >/dev/null 2>&1 ||
      die "\"$name\" needs Python $version with venv, which $python is not. Install it, set PYTHON to its path," \
        "or use --with conda."
    step environment "$python" -m venv "$venv"
  fi
  step packages pip_install -r "$root/envs/$recipe.txt"
}

make_conda() {
  local file=$root/envs/$recipe.yml verb=create
  if prefix_of "$name" >/dev/null; then verb=update; fi
  case $tool-$verb in
    micromamba-create) step environment conda_tool create -n "$name" -f "$file" ;;
    micromamba-update) step environment conda_tool install -n "$name" -f "$file" ;;
    *) step environment conda_tool env "$verb" -n "$name" -f "$file" ;;
  esac
}

# Install what the requirements files cannot list: our own package, upstream code, and packages compiled against torch.
finish() {
  case $recipe in
    vllm) step sam3d_gs pip_install -e "$root" ;;
    sam3)
      step sam3d_gs pip_install -e "$root"
      upstream sam3
      ;;
    native) step sam3d_gs pip_install -e "${root}[embedded,native]" ;;
    sam3d-objects)
      step sam3d_gs pip_install -e "${root}[embedded,native]"
      # shellcheck disable=SC2016 # CONDA_PREFIX is set inside the environment
      step 'compiling packages (takes long)' in_env bash -c 'CUDA_HOME=$CONDA_PREFIX FORCE_CUDA=1 exec "$@"' - \
        python -m pip --no-input install --no-build-isolation -r "$root/envs/sam3d-objects-build.txt"
      upstream sam-3d-objects
      ;;
  esac
}

upstream() {
  step "upstream code of $1" bash "$root/envs/fetch_upstream.sh" "$1"
  step "$1" pip_install --no-deps -e "$root/$1"
}

# set_up RECIPE
set_up() {
  local recipe=$1 name venv prefix started=$SECONDS
  name=$(name_of "$recipe")
  if [[ $recipe == native ]] && has_official; then recipe=sam3d-objects; fi # includes native
  if up_to_date; then
    say "$name is up to date."
    return
  fi
  venv=${SAM3D_GS_VENVS:-$root/.venvs}/$name
  if [[ $tool != venv && -d $venv ]]; then
    die "$venv would be used instead of Conda's \"$name\". Remove it, or use --with venv."
  fi
  say "Creating the environment \"$name\" for $recipe with $tool (only once; takes minutes; log: $log) ..."
  if prefix=$(prefix_of "$name"); then rm -f -- "$prefix/.sam3d_gs"; fi # not up to date until the end
  if [[ $tool == venv ]]; then make_venv; else make_conda; fi
  prefix=$(prefix_of "$name") || die "$tool created \"$name\", but it cannot be activated. See $log."
  finish
  ingredients >"$prefix/.sam3d_gs"
  say "$name is ready ($((SECONDS - started)) s)."
}

recipes=() tool=''
while [[ $# -gt 0 ]]; do
  case $1 in
    -h | --help)
      print_usage
      exit 0
      ;;
    --env=* | --with=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    --env)
      name_of "${2:-}" >/dev/null || usage "Unknown environment: ${2:-}. Expected vllm, sam3, native or sam3d-objects."
      recipes+=("$2")
      shift 2
      ;;
    --with)
      [[ ${2:-} =~ ^(conda|mamba|micromamba|venv)$ ]] || usage "Unknown tool: ${2:-}."
      tool=$2
      shift 2
      ;;
    *) usage "Unknown argument: $1." ;;
  esac
done
[[ ${#recipes[@]} -gt 0 ]] || recipes=(vllm sam3 native)
if [[ $tool != venv ]] && _conda_sh_is_wrong; then die "CONDA_SH is not a readable file ($CONDA_SH)."; fi
[[ -n $tool ]] || choose_tool
if [[ $tool == conda ]]; then
  _load_tool conda || die 'No Conda found. Set CONDA_SH to the path of its conda.sh, or choose another --with.'
elif [[ $tool != venv ]]; then
  _load_tool "$tool" || command -v "$tool" >/dev/null ||
    die "$tool is not on the PATH. Install it, or choose another --with."
fi
for recipe in "${recipes[@]}"; do
  [[ $recipe != sam3d-objects || $tool != venv ]] ||
    die "The official package is compiled with Conda's CUDA. Use --with conda, or --env native, which needs no" \
      'compiler.'
done

mkdir -p -- "$root/.cache"
log=$root/.cache/setup.log
one_at_a_time "$root/.cache/setup.lock"
: >"$log"
for recipe in "${recipes[@]}"; do set_up "$recipe"; done
