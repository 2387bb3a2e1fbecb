# shellcheck shell=bash
# Saying things, processes that outlive us, ports and locks. Sourced by `stack`.

# For local use only, and known to everyone: the stacks listen on 127.0.0.1.
# shellcheck disable=SC2034 # used by the files beside this one
admin=runledger_admin
# shellcheck disable=SC2034
password=runledger-dev

say() { printf '%s\n' "$*" >&2; }

die() {
  printf 'stack: %s\n' "$*" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

port_setting() {
  local value=${!1:-$2}
  if ! [[ $value =~ ^[1-9][0-9]{0,4}$ ]] || ((value > 65535)); then
    die "$1 must be a port, not '$value'"
  fi
  printf '%s' "$value"
}

# with_lock <file> <function>: one at a time, in a subshell whose end frees the lock.
with_lock() (
  mkdir -p "$(dirname "$1")"
  if have flock; then
    exec 9>>"$1"
    if ! flock -n 9; then
      say "waiting for another stack command to end"
      flock -w 600 9 || die "another stack command has held $1 for ten minutes"
    fi
  fi
  "$2"
)

port_open() {
  (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# require_port <port> <name> <setting>: dies when somebody else listens there. A
# process that was just killed may hold its port a moment longer.
require_port() {
  local attempt
  for attempt in 1 2 3 4 5 6 7 8 9 10; do
    port_open "$1" || return 0
    ((attempt == 10)) || sleep 0.3
  done
  say "stack: port $1, which $2 of the $stack stack needs, is held by another process:"
  if have ss; then
    ss -ltnpH "sport = :$1" >&2 || true
  elif have lsof; then
    lsof -nP -iTCP:"$1" -sTCP:LISTEN >&2 || true
  fi
  die "stop that process, or choose another port with RUNLEDGER_STACK_${upper}_$3"
}

# When a process began, in a form that changes if its number is used again.
# Nothing for a process that is gone or only waits to be reaped.
process_start() {
  local stat
  if [[ -d /proc/self ]]; then
    # Not $(<…): where there is no such file, that ends the whole shell.
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # After the last ')' of the name: state, then fields 4 to 22.
    read -r -a stat <<<"${stat##*) }"
    # shellcheck disable=SC2178,SC2128
    [[ ${stat[0]} != Z && ${stat[0]} != X ]] || return 1
    printf '%s' "${stat[19]}"
  else
    stat=$(LC_ALL=C ps -o lstart= -p "$1") || return 1
    printf '%s' "${stat// /_}"
  fi
}

# record_process <file> <pid> <port>: what `down` is allowed to end.
record_process() {
  local start
  start=$(process_start "$2") || return 1
  printf '%s %s %s\n' "$2" "$start" "$3" >"$1.new"
  mv "$1.new" "$1"
}

# recorded_pid <file>: the pid, if that very process still runs.
recorded_pid() {
  local pid start port
  [[ -s $1 ]] || return 1
  read -r pid start port <"$1" || return 1
  [[ $pid =~ ^[0-9]+$ && $(process_start "$pid") == "$start" ]] || return 1
  printf '%s' "$pid"
}

recorded_port() {
  local pid start port
  read -r pid start port <"$1" && printf '%s' "$port"
}

# spawn <log> <command…>: a process of its own session, tied to nothing of ours.
# Its pid is in $spawned.
spawn() {
  local log=$1
  shift
  (
    cd /
    local fd
    for fd in /dev/fd/*; do
      fd=${fd##*/}
      if [[ $fd =~ ^[0-9]+$ ]] && ((fd > 2 && fd < 255)); then eval "exec $fd>&-"; fi
    done
    trap '' HUP
    if have setsid; then exec setsid "$@"; else exec "$@"; fi
  ) </dev/null >>"$log" 2>&1 &
  # shellcheck disable=SC2034
  spawned=$!
}

# wait_until <name> <pid function> <probe>: 0 ready, 1 its process ended, 2 too slow.
wait_until() {
  local name=$1 alive=$2 probe=$3 began=$SECONDS said=0 waited
  until "$probe"; do
    "$alive" || return 1
    waited=$((SECONDS - began))
    ((waited < wait_limit)) || return 2
    if ((waited >= said + 5)); then
      said=$waited
      say "waiting for $name ($waited of at most $wait_limit s)"
    fi
    sleep 0.2
  done
  say "$name is up"
}

# stop_process <name> <pid file> <signal> <seconds> [<signal> <seconds>…]: asks more
# firmly each time, and in the end kills; never touches another process.
stop_process() {
  local name=$1 file=$2 pid signal limit began
  shift 2
  if ! pid=$(recorded_pid "$file"); then
    rm -f "$file"
    return 0
  fi
  say "stopping $name (pid $pid)"
  for signal in "$@" KILL 10; do
    if [[ $signal =~ ^[0-9]+$ ]]; then
      limit=$signal began=$SECONDS
      while recorded_pid "$file" >/dev/null && ((SECONDS - began < limit)); do sleep 0.1; done
      if ! recorded_pid "$file" >/dev/null; then
        rm -f "$file"
        return 0
      fi
      say "$name (pid $pid) still runs after $limit s"
    else
      recorded_pid "$file" >/dev/null && kill "-$signal" "$pid" 2>/dev/null || true
    fi
  done
  die "$name (pid $pid) cannot be stopped"
}

# fail_with_log <what> <log…>: the end of the logs, then what to do.
fail_with_log() {
  local what=$1 log
  shift
  for log in "$@"; do
    [[ -s $log ]] || continue
    say "--- the end of ${log#"$checkout"/}"
    tail -n 25 "$log" >&2
  done
  say "---"
  die "$what; read the lines above, mend the cause and run \`deploy/dev/stack up $stack\` again (\`deploy/dev/stack wipe $stack\` starts from nothing)"
}
