#!/usr/bin/env bash
# Name the objects of photos and mask them: phrases (environment vllm), then masks (environment sam3).
#
# Usage: bash run_agent_with_vllm.sh [PHOTO ...] [OPTIONS]
#
# Without a photo the sample in assets/ is used. Photos and options go to both stages, so only what both know fits
# here: --workspace DIR (default: this repository), --profile full|embedded, --force. Options of one stage:
#   SAM3D_GS_PHRASES_OPTIONS='--phrases "red cup" --phrases spoon'    see `sam3d-gs phrases --help`
#   SAM3D_GS_MASKS_OPTIONS='--max-objects 6'                          see `sam3d-gs masks --help`
# Other settings: SAM3D_GS_PROFILE, SAM3D_GS_PHOTO (instead of the sample), SAM3D_GS_ENV_VLLM, SAM3D_GS_ENV_SAM3,
# SAM3D_GS_VENVS, CONDA_SH. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 partly done, 130 interrupted.

set -euo pipefail
trap 'exit 130' INT
# shellcheck source=envs/stages.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/envs/stages.sh"

help_if_asked "$@"
choose_profile "$SAM3D_GS_ENV_VLLM" "$SAM3D_GS_ENV_SAM3" -- "$@"

split_options SAM3D_GS_PHRASES_OPTIONS
stage "$SAM3D_GS_ENV_VLLM" phrases ${options[@]+"${options[@]}"} "$@"

split_options SAM3D_GS_MASKS_OPTIONS
stage "$SAM3D_GS_ENV_SAM3" masks ${options[@]+"${options[@]}"} "$@"

finish
