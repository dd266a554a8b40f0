#!/usr/bin/env bash
# Fetch the pinned upstream code into sam3/ and sam-3d-objects/ (for the full profile only).
#
# Usage: bash envs/fetch_upstream.sh [FOLDER ...]      default: both
#
# Like `git submodule update --init`, but also works if sam-3d-objects/ already contains results, where git refuses to
# clone. Fetches only the pinned commit and keeps the results.

# Every other shell hands over to bash.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@"
set +o posix
set -euo pipefail
trap 'exit 130' INT

here=$(dirname -- "$(readlink -f -- "$0" 2>/dev/null || printf '%s\n' "$0")") # also through a symlink
# shellcheck source=envs/usage.sh
source "$here/usage.sh"
names_only "$@"
cd -- "$here/.."

fetch() {
  local folder=$1 url commit
  url=$(git config -f .gitmodules "submodule.$folder.url") ||
    { printf '%s: %s is not one of the submodules in .gitmodules.\n' "${0##*/}" "$folder" >&2 && exit 2; }
  commit=$(git rev-parse ":$folder")
  if [[ ! -e $folder/.git ]]; then
    git init -q -- "$folder"
    git -C "$folder" remote add origin "$url"
  fi
  if ! git -C "$folder" cat-file -e "$commit^{commit}" 2>/dev/null; then
    git -C "$folder" fetch -q --depth 1 origin "$commit" || { forget_empty "$folder" && exit 1; }
  fi
  git -C "$folder" checkout -q --detach "$commit"
  git submodule --quiet init -- "$folder"
  git submodule --quiet absorbgitdirs -- "$folder"
  printf '%s: %s\n' "$folder" "$commit"
}

# Remove a repository without commits, which would make git's own commands fail.
forget_empty() { git -C "$1" rev-parse -q --verify HEAD >/dev/null || rm -rf -- "$1/.git"; }

[[ $# -gt 0 ]] || set -- sam3 sam-3d-objects
for folder in "$@"; do fetch "${folder%/}"; done
