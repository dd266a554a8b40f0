#!/usr/bin/env bash
# One photo in, a scene of separate 3D Gaussian objects out.
#
# Usage: bash run_pipeline.sh [PHOTO ...] [OPTIONS]
#
# Without a photo, the sample in assets/ is used. The profile selects the models:
#   full      Qwen3-VL on vLLM, SAM 3 and SAM 3D Objects, each in its own environment
#   embedded  small models on the CPU, in .venv, which is created on the first run
# --profile sets it, or else SAM3D_GS_PROFILE; the default is full if all three environments are ready, else embedded.
# Options are those of `sam3d-gs run` (see its --help), in both profiles. --workspace defaults to SAM3D_GS_WORKSPACE, or
# else this repository. This script adds one option:
#   --overlap  for several photos: run all stages at the same time, each on photos that the previous stage has finished.
#              The models must fit into GPU memory together, which is checked first. Only the scene stage then prints
#              to stdout, the others to stderr.
# The full profile first checks that every stage has its environment, weights and GPU (not with SAM3D_GS_CHECKED=1);
# `sam3d-gs doctor` prints the whole check.
# Other settings: SAM3D_GS_PHOTO (instead of the sample), SAM3D_GS_ENV_VLLM, SAM3D_GS_ENV_SAM3, SAM3D_GS_ENV_SAM3D,
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
take_overlap "$@"
set -- "${arguments[@]+"${arguments[@]}"}"
choose_profile "$SAM3D_GS_ENV_VLLM" "$SAM3D_GS_ENV_SAM3" "$SAM3D_GS_ENV_SAM3D" -- "$@"

if ((overlap)); then
  refuse_stages_option "$@"
  check "$SAM3D_GS_ENV_VLLM" phrases,masks,objects,scene "$@"
  environment_for "$SAM3D_GS_ENV_VLLM" # creates .venv if needed, before four processes would
  keep_going_if_partial overlapped "$@"
elif [[ $profile == embedded ]]; then
  stage .venv phrases,masks,objects,scene "$@"
else
  export SAM3D_GS_PROFILE=full
  check "$SAM3D_GS_ENV_VLLM" phrases,masks,objects,scene "$@"
  keep_going_if_partial bash "$sam3d_gs_root/run_agent_with_vllm.sh" "$@"
  keep_going_if_partial bash "$sam3d_gs_root/run_sam3d_from_masks.sh" "$@"
fi

finish
