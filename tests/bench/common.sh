# What the scripts of the benchmark share; to be sourced. They set `program`, which speaks in messages.
# shellcheck shell=bash

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
built=${CARGO_TARGET_DIR:-$checkout/target}
[[ $built == /* ]] || built=$checkout/$built
built=$built/bench
export PYTHONDONTWRITEBYTECODE=1

say() { printf '%s\n' "$*" >&2; }

die() {
  say "${program:?}: $*"
  exit 1
}

need() {
  command -v "$1" >/dev/null || die "$1 is missing; install it ($2) and run this again"
}

# The packages of a list, in an environment of their own. The mark is the list, copied when all of it is there.
build_venv() {
  local list=$1 venv=$2
  need python3 "apt-get install python3 python3-venv"
  if cmp -s "$list" "$venv/requirements.txt"; then return; fi
  say "fetching what $list names (once)"
  rm -rf "$venv"
  python3 -m venv "$venv" || die "Python cannot make a virtual environment: apt-get install python3-venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$list" >&2
  cp "$list" "$venv/requirements.txt"
}
