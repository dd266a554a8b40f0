#!/usr/bin/env bash
# One photo in, a scene of separate 3D Gaussian objects out.
#
# Usage: bash run_pipeline.sh [PHOTO ...] [OPTIONS]
#
# Without a photo the sample in assets/ is used. The profile decides who does the work:
#   full      Qwen3-VL on vLLM, SAM 3 and SAM 3D Objects, each in an environment of its own
#   embedded  small models on the CPU, in .venv, which is made on the first run
# --profile wins, then SAM3D_GS_PROFILE; otherwise full where all three environments are ready, else embedded.
# Options are those of `sam3d-gs run` (see its --help), the same in both profiles: in full, each of the three
# environments gets all of them. --workspace is SAM3D_GS_WORKSPACE by default, or else this repository.
# One option is this script's own. --overlap, for several photos: all stages work at the same time, each on the photos
# that the stage before has finished. The cards must hold the models side by side; that is looked at first. Results of
# the first stages are then shown on stderr.
# Before anything starts, full looks whether every stage has its environment, weights and card, and else says what to do
# (SAM3D_GS_CHECKED=1 leaves that out; `sam3d-gs doctor` shows all there is).
# Other settings: SAM3D_GS_PHOTO (instead of the sample), SAM3D_GS_ENV_VLLM, SAM3D_GS_ENV_SAM3, SAM3D_GS_ENV_SAM3D,
# SAM3D_GS_VENVS, CONDA_SH. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 partly done, 130 interrupted.

set -euo pipefail
trap 'exit 130' INT
# shellcheck source=envs/stages.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/envs/stages.sh"

help_if_asked "$@"
take_overlap "$@"
set -- "${arguments[@]+"${arguments[@]}"}"
choose_profile "$SAM3D_GS_ENV_VLLM" "$SAM3D_GS_ENV_SAM3" "$SAM3D_GS_ENV_SAM3D" -- "$@"

if ((overlap)); then
  refuse_stages_option "$@"
  check "$SAM3D_GS_ENV_VLLM" phrases,masks,objects,scene "$@"
  environment_for "$SAM3D_GS_ENV_VLLM" # before four processes want to make it at once
  keep_going_if_partial at_once "$@"
elif [[ $profile == embedded ]]; then
  stage .venv phrases,masks,objects,scene "$@"
else
  export SAM3D_GS_PROFILE=full
  check "$SAM3D_GS_ENV_VLLM" phrases,masks,objects,scene "$@"
  keep_going_if_partial bash "$sam3d_gs_root/run_agent_with_vllm.sh" "$@"
  keep_going_if_partial bash "$sam3d_gs_root/run_sam3d_from_masks.sh" "$@"
fi

finish
