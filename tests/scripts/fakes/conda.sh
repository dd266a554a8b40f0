# shellcheck shell=bash
# A fake Conda: like the real one a function with state in exported variables, which reads unset variables and prints
# two lines for an unknown environment. It creates environments with conda-env.
CONDA_EXE=$(dirname "$(dirname "$(dirname "${BASH_SOURCE[0]}")")")/bin/conda
export CONDA_EXE
if [[ -z "${CONDA_SHLVL+x}" ]]; then export CONDA_SHLVL=0; fi

conda() {
  local base prefix
  : "$_CE_M" "$_CE_CONDA" "$PS1_NEVER_SET" # these stop a shell under `set -u`
  base=$(dirname "$(dirname "$CONDA_EXE")")
  if [[ $1 == env ]]; then
    FAKE_ENVS=$base/envs bash "$(dirname "$FAKE_RECORD")/conda-env" conda "$@"
    return
  fi
  [[ $1 == activate ]] || return 2
  prefix=$base/envs/$2
  if [[ ! -d $prefix ]]; then
    printf '\nEnvironmentNameNotFound: Could not find conda environment: %s\nYou can list them.\n\n' "$2" >&2
    return 1
  fi
  if ((CONDA_SHLVL > 0)); then PATH=${PATH//"$CONDA_PREFIX/bin:"/}; fi
  export PATH="$prefix/bin:$PATH" CONDA_PREFIX=$prefix CONDA_DEFAULT_ENV=$2 CONDA_SHLVL=$((CONDA_SHLVL + 1))
}
