# shellcheck shell=bash
# What the three stage scripts share: their help, the profile, and how stages follow each other. To be sourced.

# shellcheck source=envs/activate.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/activate.sh"

# The photo of a call that names none; the program reads it (an argument list cannot tell a photo from an option's value).
export SAM3D_GS_PHOTO="${SAM3D_GS_PHOTO:-$sam3d_gs_root/assets/sample.jpg}"

partial=3 # exit code: some objects failed, the others are there
exit_code=0

# Print the comment at the head of the script and leave when the arguments ask for help.
help_if_asked() {
  local argument
  for argument in "$@"; do
    case $argument in
      --) return ;;
      -h | --help)
        sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    esac
  done
}

# choose_profile ENVIRONMENT... -- ARGUMENT...: sets `profile`. The environments are those that `full` needs here.
# --profile wins, then SAM3D_GS_PROFILE, then `full` where all of them are ready, else `embedded`, said aloud.
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
    say "NOTE: the small embedded CPU models do the work, since the environment \"$name\" is not ready: $problem" \
      "For the full models see README.md; --profile embedded hides this note."
    return
  done
}

# environment_for NAME: sets `environment` to where a stage runs; the embedded profile's one is made when it must be.
environment_for() {
  if [[ $profile == full ]]; then
    environment=$1
  else
    environment=.venv
    bash "$sam3d_gs_root/envs/setup_embedded.sh"
  fi
}

# A script is a choice of stages by itself.
refuse_stages_option() {
  local argument
  for argument in "$@"; do
    case $argument in
      --) return ;;
      --stages | --stages=*)
        say "--stages does not go with this script. Activate an environment and use \`sam3d-gs run --stages\`."
        exit 2
        ;;
    esac
  done
}

# take_overlap ARGUMENT...: sets `arguments` to all but --overlap, and `overlap` to how often that is there.
take_overlap() {
  local argument names_follow=''
  arguments=()
  for argument in "$@"; do
    [[ $argument != -- ]] || names_follow=yes
    [[ $argument == --overlap && -z $names_follow ]] || arguments+=("$argument")
  done
  # shellcheck disable=SC2034
  overlap=$(($# - ${#arguments[@]}))
}

# program ENVIRONMENT STAGES ARGUMENTS...: run stages in one environment, which is made when it must be.
program() {
  environment_for "$1" || return
  run_in_env "$environment" sam3d-gs run --stages "$2" \
    --profile "$profile" --workspace "${SAM3D_GS_WORKSPACE:-$sam3d_gs_root}" "${@:3}"
}

# at_once ARGUMENTS...: all stages, each a process that takes the photos from the one before. The last failure is the one
# that counts, since a stage whose follower has ended stops as well.
at_once() {
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

# stage ENVIRONMENT STAGES ARGUMENTS...: run stages in one environment; a failure ends the script with the same code, and
# a partial result is remembered while the later stages work on what there is.
stage() {
  keep_going_if_partial program "$@"
}

# check ENVIRONMENT STAGES ARGUMENTS...: in the full profile, end the script before anything starts when one of the stages
# lacks its environment, weights or card; says what to do. Once a run; SAM3D_GS_CHECKED=1 leaves it out.
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

# Leave with what the stages said.
finish() { exit "$exit_code"; }
