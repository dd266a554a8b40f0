# shellcheck shell=bash
# The help of the scripts is the comment at their top. Source this file.

print_usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

# For scripts that take names alone: print the help and exit if the first argument asks for it; refuse other options.
names_only() {
  case ${1:-} in
    -h | --help)
      print_usage
      exit 0
      ;;
    -*)
      printf '%s: Unknown option: %s. See --help.\n' "${0##*/}" "$1" >&2
      exit 2
      ;;
  esac
}
