# shellcheck shell=bash
# Functions of the three stage scripts: help, choice of the profile, and running stages. Source this file.

# shellcheck source=envs/activate.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/activate.sh"
# shellcheck source=envs/usage.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/usage.sh"

# The default photo. The program reads this variable, since a script cannot tell photos from values of options.
export SAM3D_GS_PHOTO="${SAM3D_GS_PHOTO:-$sam3d_gs_root/assets/sample.jpg}"

partial=3 # exit code: some objects failed, others succeeded
exit_code=0

# Print the comment at the top of the script and exit if the arguments contain --help.
help_if_asked() {
  local argument
  for argument in "$@"; do
    case $argument in
      --) return ;;
      -h | --help)
        print_usage
        exit 0
        ;;
    esac
  done
}

# choose_profile ENVIRONMENT... -- ARGUMENT...: sets `profile` from --profile, else SAM3D_GS_PROFILE, else to `full` if
# all the environments are ready, else to `embedded`, with a note.
choose_profile() {
  local name problem argument previous='' needed=()
  while [[ $1 != -- ]]; do
    needed+=("$1")
    shift
  done
  shift
  profile=${SAM3D_GS_PROFILE:-}
  for argument in "$@"; do
    [[ $argument != -- ]] || break
    [[ $previous != --profile ]] || profile=$argument
    [[ $argument != --profile=* ]] || profile=${argument#*=}
    previous=$argument
  done
  case $profile in
    full | embedded) return ;;
    '') profile=full ;;
    *)
      say "Invalid profile: $profile. Expected full or embedded."
      exit 2
      ;;
  esac
  for name in "${needed[@]}"; do
    problem=$(env_problem "$name")
    [[ -n $problem ]] || continue
    profile=embedded
    say "NOTE: using the small embedded CPU models, because the environment \"$name\" is not ready: $problem" \
      "For the full models see README.md; --profile embedded hides this note."
    return
  done
}

# environment_for NAME: sets `environment` to NAME, or in the embedded profile to .venv, which is created if needed.
environment_for() {
  if [[ $profile == full ]]; then
    environment=$1
  else
    environment=.venv
    bash "$sam3d_gs_root/envs/setup_embedded.sh"
  fi
}

# Each script runs fixed stages.
refuse_stages_option() {
  local argument
  for argument in "$@"; do
    case $argument in
      --) return ;;
      --stages | --stages=*)
        say "This script does not take --stages. Activate an environment and use \`sam3d-gs run --stages\`."
        exit 2
        ;;
    esac
  done
}

# take_overlap ARGUMENT...: sets `arguments` to all but --overlap, and `overlap` to how often it occurs.
take_overlap() {
  local argument only_photos=''
  arguments=()
  for argument in "$@"; do
    [[ $argument != -- ]] || only_photos=yes
    [[ $argument == --overlap && -z $only_photos ]] || arguments+=("$argument")
  done
  # shellcheck disable=SC2034
  overlap=$(($# - ${#arguments[@]}))
}

# program ENVIRONMENT STAGES ARGUMENTS...: run stages in one environment (see environment_for).
program() {
  environment_for "$1" || return
  run_in_env "$environment" sam3d-gs run --stages "$2" \
    --profile "$profile" --workspace "${SAM3D_GS_WORKSPACE:-$sam3d_gs_root}" "${@:3}"
}

# overlapped ARGUMENTS...: run each stage as a process that takes photos from the previous one. Returns the code of the
# last stage that failed: an earlier stage also fails when the next one has ended.
overlapped() {
  local code worst=0
  program "$SAM3D_GS_ENV_VLLM" phrases --pass-on "$@" |
    program "$SAM3D_GS_ENV_SAM3" masks --follow --pass-on "$@" |
    program "$SAM3D_GS_ENV_SAM3D" objects --follow --pass-on "$@" |
    program "$SAM3D_GS_ENV_SAM3D" scene --follow "$@" ||
    for code in "${PIPESTATUS[@]}"; do
      if [[ $code != 0 && ($code != "$partial" || $worst == 0) ]]; then worst=$code; fi
    done
  return "$worst"
}

# stage ENVIRONMENT STAGES ARGUMENTS...: run stages in one environment. A failure ends the script with its code; after a
# partial failure the later stages still run.
stage() {
  keep_going_if_partial program "$@"
}

# check ENVIRONMENT STAGES ARGUMENTS...: in the full profile, exit before anything starts if a stage lacks its
# environment, weights or GPU, and print how to fix it. Runs only once; SAM3D_GS_CHECKED=1 skips it.
check() {
  [[ $profile == full && -z ${SAM3D_GS_CHECKED:-} ]] || return 0
  run_in_env "$1" sam3d-gs run --stages "$2" --profile full --workspace "${SAM3D_GS_WORKSPACE:-$sam3d_gs_root}" \
    --check "${@:3}" || exit
  export SAM3D_GS_CHECKED=1
}

keep_going_if_partial() {
  local code=0
  "$@" || code=$?
  case $code in
    0) ;;
    "$partial") exit_code=$partial ;;
    *) exit "$code" ;;
  esac
}

# Exit with the code of the stages.
finish() { exit "$exit_code"; }
