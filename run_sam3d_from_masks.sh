#!/usr/bin/env bash
# Lift the masks of photos to posed Gaussians and merge them into one scene (environment sam3d-objects).
#
# Usage: bash run_sam3d_from_masks.sh [PHOTO ...] [OPTIONS]
#
# Run it after run_agent_with_vllm.sh, with the same photos and options. Options are those of `sam3d-gs run` (see its
# --help). Without a photo, the sample in assets/ is used; --workspace defaults to this repository.
# Settings: SAM3D_GS_PROFILE, SAM3D_GS_PHOTO (instead of the sample), SAM3D_GS_ENV_SAM3D, SAM3D_GS_VENVS,
# CONDA_SH, MAMBA_EXE. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 partly done, 130 interrupted.

# Every other shell hands over to bash.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"
set +o posix
set -euo pipefail
trap 'exit 130' INT
here=$(dirname -- "$(readlink -f -- "$0" 2>/dev/null || printf '%s\n' "$0")") # also through a symlink
# shellcheck source=envs/stages.sh
source "$here/envs/stages.sh"

help_if_asked "$@"
refuse_stages_option "$@"
choose_profile "$SAM3D_GS_ENV_SAM3D" -- "$@"

check "$SAM3D_GS_ENV_SAM3D" objects,scene "$@"
stage "$SAM3D_GS_ENV_SAM3D" objects,scene "$@"

finish
