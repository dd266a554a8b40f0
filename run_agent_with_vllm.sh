#!/usr/bin/env bash
# Name the objects of photos and mask them: phrases (environment vllm), then masks (environment sam3).
#
# Usage: bash run_agent_with_vllm.sh [PHOTO ...] [OPTIONS]
#
# Without a photo, the sample in assets/ is used. Options are those of `sam3d-gs run` (see its --help), in any order;
# each stage uses the ones that concern it. --workspace defaults to this repository.
# Settings: SAM3D_GS_PROFILE, SAM3D_GS_PHOTO (instead of the sample), SAM3D_GS_ENV_VLLM, SAM3D_GS_ENV_SAM3,
# SAM3D_GS_VENVS, CONDA_SH, MAMBA_EXE. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 partly done, 130 interrupted.

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
choose_profile "$SAM3D_GS_ENV_VLLM" "$SAM3D_GS_ENV_SAM3" -- "$@"

check "$SAM3D_GS_ENV_VLLM" phrases,masks "$@"
stage "$SAM3D_GS_ENV_VLLM" phrases "$@"
stage "$SAM3D_GS_ENV_SAM3" masks "$@"

finish
