# shellcheck shell=bash
# A Postgres cluster of its own, from the system's packages. Sourced by `stack`.
#
#   .dev/<stack>/postgres           data, logs; of the user that Postgres runs as
#   .dev/<stack>/postgres.place     where that is, if it cannot be there
#   .dev/<stack>/postgres.process   pid, start time and port of what we started

postgres_oldest=15

postgres_process() { printf '%s' "$state/postgres.process"; }
postgres_pid() { recorded_pid "$(postgres_process)"; }
postgres_alive() { postgres_pid >/dev/null; }

postgres_state() {
  if postgres_alive; then
    local port
    port=$(recorded_port "$(postgres_process)")
    if [[ $port != "$postgres_port" ]]; then
      echo "runs on port $port instead"
    elif postgres_ready; then
      echo up
    else
      echo 'not ready'
    fi
  elif port_open "$postgres_port"; then
    echo 'down; the port is held by another process'
  else
    echo down
  fi
}

# The folder of the programs of at least the oldest version we use: of exactly
# version $1, when a cluster of it exists.
postgres_bin() {
  local wanted=${1:-} bins bin version
  bins=$(
    dirname "$(command -v postgres || echo /none/none)"
    pg_config --bindir 2>/dev/null || true
    printf '%s\n' /usr/lib/postgresql/*/bin | sort -t / -k 5 -n -r
    printf '%s\n' /usr/pgsql-*/bin /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin
  )
  while read -r bin; do
    [[ -x $bin/postgres && -x $bin/initdb && -x $bin/psql ]] || continue
    version=$("$bin/postgres" --version | sed -E 's/[^0-9]*([0-9]+).*/\1/')
    if ((version >= postgres_oldest)) && [[ -z $wanted || $version == "$wanted" ]]; then
      printf '%s' "$bin"
      return
    fi
  done <<<"$bins"
}

# Postgres refuses to run as root. In $pg_run: what to put before its commands.
postgres_user() {
  if [[ $EUID -ne 0 ]]; then
    pg_user=$(id -un)
    pg_run=(env HOME=/)
    return
  fi
  pg_user=postgres
  id "$pg_user" >/dev/null 2>&1 || pg_user=nobody
  if have setpriv; then
    pg_run=(setpriv "--reuid=$(id -u "$pg_user")" "--regid=$(id -g "$pg_user")" --init-groups -- env HOME=/)
  elif have runuser; then
    pg_run=(runuser -u "$pg_user" -- env HOME=/)
  else
    die "running as root needs setpriv or runuser (package util-linux): Postgres must not run as root"
  fi
}

# postgres_own <folder>: 0 when the user that Postgres runs as can use it.
postgres_own() {
  mkdir -p "$1" && chmod 700 "$1" || return 1
  if [[ $EUID -eq 0 ]]; then
    chown "$pg_user:$(id -g "$pg_user")" "$1" 2>/dev/null || return 1
  fi
  (cd / && "${pg_run[@]}" sh -c 'cd "$1" && : >probe && rm probe' sh "$1") 2>/dev/null
}

# Where the cluster lives, in $pg_home: in the state folder, or, if the user that
# Postgres runs as cannot get there, in a folder named after it under /var/tmp.
postgres_place() {
  pg_home=$state/postgres
  if [[ -s $state/postgres.place ]]; then
    pg_home=$(<"$state/postgres.place")
  fi
}

postgres_choose_place() {
  postgres_place
  if [[ -f $pg_home/data/PG_VERSION ]]; then return; fi
  rm -f "$state/postgres.place"
  postgres_place
  if postgres_own "$pg_home"; then return; fi
  rmdir "$pg_home" 2>/dev/null || true
  local hash
  hash=$(printf '%s' "$state" | cksum | tr -d ' ')
  pg_home=/var/tmp/runledger-$stack-$hash
  rmdir "$pg_home" 2>/dev/null || true
  if [[ -e $pg_home && ! -O $pg_home && $(stat -c %U "$pg_home") != "$pg_user" ]]; then
    die "$pg_home belongs to somebody else; choose another RUNLEDGER_STACK_ROOT"
  fi
  postgres_own "$pg_home" || die "$pg_user can use neither $state/postgres nor $pg_home"
  say "the user $pg_user cannot reach ${state#"$checkout"/}: its cluster goes to $pg_home"
  printf '%s\n' "$pg_home" >"$state/postgres.place"
}

# psql as the superuser; the caller's own Postgres settings play no part.
postgres_psql() (
  local name bin
  for name in "${!PG@}"; do unset "$name"; done
  bin=$(postgres_bin)
  export PGHOST=127.0.0.1 PGPORT=$postgres_port PGUSER=$admin PGPASSWORD=$password
  export PGDATABASE=postgres PGCONNECT_TIMEOUT=5 PGSSLMODE=disable PSQLRC=/dev/null
  cd / && exec "$bin/psql" -X -q -A -t -v ON_ERROR_STOP=1 "$@"
)

postgres_ready() {
  port_open "$postgres_port" && postgres_psql -c 'SELECT 1' >/dev/null 2>&1
}

# The cluster is made beside its place and renamed: a half-made one is never used.
postgres_init() {
  local bin=$1 log=$pg_home/logs/initdb.log
  if [[ -f $pg_home/data/PG_VERSION ]]; then return; fi
  say "making a Postgres cluster"
  rm -rf "$pg_home/data.new" "$pg_home/password"
  "${pg_run[@]}" mkdir -p "$pg_home/logs"
  (umask 077 && printf '%s\n' "$password" >"$pg_home/password")
  chown "$pg_user" "$pg_home/password"
  if ! (cd / && "${pg_run[@]}" "$bin/initdb" -D "$pg_home/data.new" --username="$admin" \
    --pwfile="$pg_home/password" --auth=scram-sha-256 --encoding=UTF8 --locale=C \
    --data-checksums </dev/null >"$log" 2>&1); then
    fail_with_log "the Postgres cluster could not be made" "$log"
  fi
  rm -f "$pg_home/password"
  printf "\ninclude 'runledger.conf'\n" >>"$pg_home/data.new/postgresql.conf"
  [[ ! -d $pg_home/data ]] || die "$pg_home/data is not a Postgres cluster; move it away, or run \`deploy/dev/stack wipe $stack\`"
  mv "$pg_home/data.new" "$pg_home/data"
}

postgres_config() {
  local file=$pg_home/data/runledger.conf
  {
    printf '# Written by deploy/dev/stack at each start; edit deploy/dev/postgres instead.\n\n'
    cat "$here/postgres/postgresql.conf"
    printf '\nport = %s\n' "$postgres_port"
  } >"$file"
  chown "$pg_user" "$file"
}

# The server's own pid file outlives a crash. If it names a process that is this
# cluster's server, we lost our record: take it over. If it names anything else, the
# number was used again: remove the file, which Postgres might otherwise respect.
postgres_adopt() {
  local file=$pg_home/data/postmaster.pid pid port
  [[ -s $file ]] || return 0
  pid=$(sed -n 1p "$file")
  port=$(sed -n 4p "$file")
  if [[ $pid =~ ^[0-9]+$ ]] && process_start "$pid" >/dev/null && postgres_is_ours "$pid"; then
    record_process "$(postgres_process)" "$pid" "${port:-$postgres_port}"
  else
    rm -f "$file"
  fi
}

# A server works in its data folder.
postgres_is_ours() {
  if [[ -d /proc/self ]]; then
    [[ $(readlink "/proc/$1/cwd") == "$pg_home/data" ]]
  else
    ps -o command= -p "$1" | grep -qF "$pg_home/data"
  fi
}

postgres_up() {
  [[ -n $(postgres_bin) ]] || die "Postgres $postgres_oldest or newer is missing; run \`make setup\`"
  postgres_user
  postgres_choose_place
  if ! postgres_alive; then postgres_adopt; fi
  if postgres_alive; then
    local port
    port=$(recorded_port "$(postgres_process)")
    [[ $port == "$postgres_port" ]] || die "Postgres of the $stack stack runs on port $port; run \`deploy/dev/stack down $stack\` before moving it to $postgres_port"
  else
    rm -f "$(postgres_process)"
    require_port "$postgres_port" Postgres POSTGRES_PORT
    postgres_start
  fi
  local result=0
  wait_until "Postgres (127.0.0.1:$postgres_port)" postgres_alive postgres_ready || result=$?
  case $result in
    1) postgres_fail "Postgres ended while starting" ;;
    2) postgres_fail "Postgres is not ready after $wait_limit s (RUNLEDGER_STACK_WAIT)" ;;
  esac
  postgres_roles
}

postgres_start() {
  local version='' bin attempt
  if [[ -f $pg_home/data/PG_VERSION ]]; then version=$(<"$pg_home/data/PG_VERSION"); fi
  bin=$(postgres_bin "$version")
  if [[ -z $bin ]]; then
    die "this cluster is of Postgres $version, which is not installed: install it, or run \`deploy/dev/stack wipe $stack\`"
  fi
  postgres_init "$bin"
  postgres_config
  : >"$pg_home/logs/start.log"
  # The children of a killed server take a moment to end, and hold its memory till then.
  for attempt in 1 2 3 4 5; do
    spawn "$pg_home/logs/start.log" "${pg_run[@]}" "$bin/postgres" -D "$pg_home/data"
    sleep 0.5
    postgres_adopt
    if postgres_alive; then return; fi
    if process_start "$spawned" >/dev/null; then
      # setpriv and env become the server; runuser stays its parent
      record_process "$(postgres_process)" "$spawned" "$postgres_port" && return
    fi
    grep -q 'still in use\|already exists' "$pg_home/logs/start.log" || break
    say "Postgres is not yet free to start (attempt $attempt of 5)"
    sleep 1
  done
}

postgres_fail() {
  local newest
  newest=$(find "$pg_home/logs" -name 'postgres.*.log' -exec ls -t {} + 2>/dev/null | head -n 1)
  fail_with_log "$1" ${newest:+"$newest"} "$pg_home/logs/start.log"
}

postgres_roles() {
  if ! {
    printf "\\\\set password '%s'\n" "$password"
    cat "$checkout/deploy/postgres/roles.sql"
  } | postgres_psql -f - >/dev/null; then
    die "the roles could not be made: see the error above (deploy/postgres/roles.sql)"
  fi
}

postgres_down() {
  postgres_user
  postgres_place
  if ! postgres_alive; then postgres_adopt; fi
  # INT ends the sessions and writes a checkpoint; QUIT leaves that to the next start.
  stop_process Postgres "$(postgres_process)" INT 30 QUIT 10
}

postgres_wipe() {
  postgres_place
  rm -rf "${pg_home:?}" "$state/postgres.place"
}
