# shellcheck shell=bash
# What the set-up scripts share: saying things, and quiet steps with a log. To be sourced; `log` names the log file.

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$@" && exit 1; }

# step NAME COMMAND...: run quietly; the log has the rest.
step() {
  say "  $1 ..."
  "${@:2}" >>"${log:?}" 2>&1 </dev/null && return
  tail -n 5 -- "$log" >&2
  die "Set-up failed at \"$1\"; the whole log is $log. Run the same command again to retry."
}

# one_at_a_time LOCKFILE: wait until no other set-up holds it; it is held until the script ends.
one_at_a_time() {
  command -v flock >/dev/null || return 0
  exec 9>"$1"
  flock -n 9 || { say 'Another set-up is at work; waiting for it ...' && flock 9; }
}

holds() { [[ -f $1 && $(<"$1") == "$2" ]]; }
