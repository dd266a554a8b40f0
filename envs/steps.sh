# shellcheck shell=bash
# Functions of the set-up scripts: messages, and quiet steps with a log. Source this file; `log` is the log file.

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$@" && exit 1; }

# step NAME COMMAND...: run a command with its output in the log.
step() {
  say "  $1 ..."
  "${@:2}" >>"${log:?}" 2>&1 </dev/null && return
  tail -n 5 -- "$log" >&2
  die "Set-up failed at \"$1\"; the full log is $log. Run the same command again to retry."
}

# one_at_a_time LOCKFILE: wait for other set-ups; holds the lock until the script ends.
one_at_a_time() {
  command -v flock >/dev/null || return 0
  exec 9>"$1"
  flock -n 9 || { say 'Another set-up is running; waiting for it ...' && flock 9; }
}

holds() { [[ -f $1 && $(<"$1") == "$2" ]]; }
