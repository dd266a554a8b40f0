# shellcheck shell=bash
# record PROGRAM ARGUMENTS...: write one call to a numbered file in $FAKE/calls; fields end with NUL.
record() {
  local number=1 program=$1 name
  shift
  # noclobber reserves the number even if two programs record simultaneously.
  until (set -o noclobber && : >"$FAKE/claims/$number") 2>/dev/null; do number=$((number + 1)); done
  {
    printf '%s\0' "$program" "$PWD" "$#" "$@"
    for name in PATH HOME VIRTUAL_ENV CONDA_PREFIX CONDA_DEFAULT_ENV CONDA_SHLVL PYTHONNOUSERSITE PYTHONHOME \
      SAM3D_GS_PHOTO SAM3D_GS_PROFILE; do
      if [[ -n ${!name+set} ]]; then printf '%s=%s\0' "$name" "${!name}"; fi
    done
    printf 'program=%s\0' "$0"
  } >"$FAKE/claims/$number"
  ln "$FAKE/claims/$number" "$FAKE/calls/$number" # atomic, for concurrent readers
}
