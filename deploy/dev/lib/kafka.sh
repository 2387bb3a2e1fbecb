# shellcheck shell=bash
# One Kafka node, KRaft, from its Maven artifacts. Sourced by `stack`.
#
#   .dev/kafka/lib               the jars, shared by both stacks
#   .dev/<stack>/kafka/data      the log
#   .dev/<stack>/kafka/logs      what the process says
#   .dev/<stack>/kafka/process   pid, start time and port of what we started

kafka_process() { printf '%s' "$state/kafka/process"; }
kafka_pid() { recorded_pid "$(kafka_process)"; }
kafka_alive() { kafka_pid >/dev/null; }

kafka_state() {
  if kafka_alive; then
    local port
    port=$(recorded_port "$(kafka_process)")
    if [[ $port != "$kafka_port" ]]; then
      echo "runs on port $port instead"
    elif kafka_ready; then
      echo up
    else
      echo 'not ready'
    fi
  elif port_open "$kafka_port"; then
    echo 'down; the port is held by another process'
  else
    echo down
  fi
}

# Asks for the cluster's metadata and wants a broker in the answer: a node that
# listens but has not yet joined its own cluster is not ready.
kafka_ready() (
  export LC_ALL=C
  exec 2>/dev/null 3<>"/dev/tcp/127.0.0.1/$kafka_port" || exit 1
  # length 14, api key 3 (Metadata), version 1, correlation id 7, no client id, no topics
  printf '\0\0\0\016\0\03\0\01\0\0\0\07\377\377\0\0\0\0' >&3 || exit 1
  answer=''
  for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do
    IFS='' read -r -d '' -n 1 -t 5 byte <&3 || exit 1
    answer+=$(printf '%02x' "'$byte")
  done
  # skip the length; then the correlation id and the number of brokers
  [[ ${answer:8} == 0000000700000001 ]]
)

java_command() {
  if [[ -n ${JAVA_HOME:-} && -x $JAVA_HOME/bin/java ]]; then
    printf '%s' "$JAVA_HOME/bin/java"
  else
    command -v java
  fi
}

kafka_jars() {
  with_lock "$root/kafka/lock" kafka_jars_locked
}

# The copy is made beside its place and renamed, so that a half-made one is never
# used; the mark is the pom, so that another version of Kafka is fetched when asked for.
kafka_jars_locked() {
  local lib=$root/kafka/lib
  if cmp -s "$here/pom.xml" "$lib/pom.xml"; then return; fi
  have mvn || die "Maven is missing; run \`make setup\`"
  say "fetching Kafka's jars (once, about 50 MB)"
  rm -rf "$lib.new"
  mkdir -p "$lib.new"
  local log=$root/kafka/fetch.log
  if ! mvn --batch-mode --no-transfer-progress -Dstyle.color=never -f "$here/pom.xml" dependency:copy-dependencies \
    -DincludeScope=runtime "-DoutputDirectory=$lib.new" </dev/null >"$log" 2>&1; then
    fail_with_log "Kafka's jars could not be fetched" "$log"
  fi
  cp "$here/pom.xml" "$lib.new/pom.xml"
  rm -rf "$lib"
  mv "$lib.new" "$lib"
}

# kafka_config <file> <data folder>
kafka_config() {
  {
    printf '# Written by deploy/dev/stack at each start; edit deploy/dev/kafka instead.\n\n'
    cat "$here/kafka/server.properties"
    if [[ $stack == test ]]; then
      printf '\n'
      cat "$here/kafka/test.properties"
    fi
    printf '\n# This stack\n'
    printf 'log.dirs=%s\n' "$2"
    local listeners=PLAINTEXT://127.0.0.1:$kafka_port,CONTROLLER://127.0.0.1:$controller_port
    local advertised=PLAINTEXT://127.0.0.1:$kafka_advertised_port
    if [[ $stack == secure ]]; then
      local sealed=SSL://127.0.0.1:$tls_port,SASL_SSL://127.0.0.1:$sasl_port
      listeners+=,$sealed
      advertised+=,$sealed
      printf '\n'
      cat "$here/kafka/secure.properties"
      printf 'ssl.keystore.location=%s\n' "$state/kafka/broker.p12"
    fi
    printf 'listeners=%s\n' "$listeners"
    printf 'advertised.listeners=%s\n' "$advertised"
    printf 'controller.quorum.voters=1@127.0.0.1:%s\n' "$controller_port"
  } >"$1"
}

# kafka_java <log folder>: the command line up to the main class, in $java_line.
# The parallel collector: on two cores the default one's threads and barriers cost a tenth of all appends.
kafka_java() {
  java_line=("$(java_command)" -Xms256m -Xmx512m -XX:+UseParallelGC
    -XX:+ExitOnOutOfMemoryError -XX:-UsePerfData "-XX:ErrorFile=$1/crash.%p.log"
    -Djava.awt.headless=true "-Djava.io.tmpdir=$state/kafka/tmp"
    "-Drunledger.logs=$1" "-Dlog4j2.configurationFile=$here/kafka/log4j2.properties"
    -cp "$root/kafka/lib/*")
}

# The broker's certificate vouches for itself: whoever trusts ca.pem trusts it alone.
kafka_certificate() {
  local home=$state/kafka keytool
  [[ $stack == secure && ! -f $home/ca.pem ]] || return 0
  keytool=$(dirname "$(readlink -f "$(java_command)")")/keytool
  local store=(-keystore "$home/broker.p12" -storepass runledger-dev -alias broker)
  rm -f "$home/broker.p12"
  "$keytool" -genkeypair "${store[@]}" -storetype PKCS12 -keyalg EC -dname CN=runledger-dev -validity 3650 \
    -ext san=ip:127.0.0.1,dns:localhost -ext bc:critical=ca:true >/dev/null 2>&1 ||
    die "keytool of the Java here could not make a certificate"
  "$keytool" -exportcert -rfc "${store[@]}" -file "$home/ca.pem.new" >/dev/null 2>&1
  mv "$home/ca.pem.new" "$home/ca.pem"
}

kafka_format() {
  local home=$state/kafka users=()
  if [[ -f $home/data/meta.properties ]]; then return; fi
  [[ ! -d $home/data ]] || die "$home/data is not a Kafka data folder; move it away, or run \`deploy/dev/stack wipe $stack\`"
  say "formatting Kafka's storage"
  rm -rf "$home/data.new"
  mkdir -p "$home/data.new"
  kafka_config "$home/format.properties" "$home/data.new"
  # Sixteen random bytes in url-safe base64; a leading '-' would read as an option.
  local id
  id=r$(head -c 16 /dev/urandom | base64 | tr '+/' '__' | cut -c 1-20)A
  if [[ $stack == secure ]]; then
    users=(--add-scram 'SCRAM-SHA-256=[name=runledger,password=runledger-dev]')
  fi
  if ! "${java_line[@]}" kafka.tools.StorageTool format --ignore-formatted ${users[@]+"${users[@]}"} \
    --config "$home/format.properties" --cluster-id "$id" </dev/null >"$home/logs/format.log" 2>&1; then
    fail_with_log "Kafka's storage could not be formatted" "$home/logs/format.log"
  fi
  rm -f "$home/format.properties"
  mv "$home/data.new" "$home/data"
}

kafka_limits() {
  # Each partition holds a file open and two index files mapped.
  ulimit -n "$(ulimit -H -n)" 2>/dev/null || true
  local files maps=/proc/sys/vm/max_map_count
  files=$(ulimit -n)
  if [[ $files != unlimited ]] && ((files < 4096)); then
    say "only $files open files are allowed here: with many topics Kafka needs more (ulimit -n)"
  fi
  if [[ -r $maps ]] && (($(<"$maps") < 65530)); then
    say "vm.max_map_count is only $(<"$maps"): with many topics Kafka needs 65530"
  fi
}

kafka_up() {
  local home=$state/kafka
  if kafka_alive; then
    local port
    port=$(recorded_port "$(kafka_process)")
    [[ $port == "$kafka_port" ]] || die "Kafka of the $stack stack runs on port $port; run \`deploy/dev/stack down $stack\` before moving it to $kafka_port"
  else
    rm -f "$(kafka_process)"
    require_port "$kafka_port" Kafka KAFKA_PORT
    require_port "$controller_port" "Kafka's controller" CONTROLLER_PORT
    java_command >/dev/null || die "Java is missing; run \`make setup\`"
    mkdir -p "$home/logs" "$home/tmp"
    rm -rf "${home:?}/tmp/"*
    kafka_jars
    kafka_java "$home/logs"
    kafka_certificate
    kafka_format
    kafka_config "$home/server.properties" "$home/data"
    kafka_limits
    : >"$home/logs/out.log"
    spawn "$home/logs/out.log" "${java_line[@]}" kafka.Kafka "$home/server.properties"
    record_process "$(kafka_process)" "$spawned" "$kafka_port" || true
  fi
  local result=0
  wait_until "Kafka (127.0.0.1:$kafka_port)" kafka_alive kafka_ready || result=$?
  case $result in
    1) fail_with_log "Kafka ended while starting" "$home/logs/kafka.log" "$home/logs/out.log" ;;
    2) fail_with_log "Kafka is not ready after $wait_limit s (RUNLEDGER_STACK_WAIT)" "$home/logs/kafka.log" "$home/logs/out.log" ;;
  esac
}

kafka_down() {
  stop_process Kafka "$(kafka_process)" TERM 30
}

kafka_wipe() {
  rm -rf "$state/kafka"
}
