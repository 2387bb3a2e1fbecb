# shellcheck shell=bash
# What a machine must have before a stack can start and the code can be built.
# Installs it where apt can, and otherwise names it. Sourced by `stack`.

# Each need: what it is called here, the test for it, what to install elsewhere.
needs=(java maven postgres cc cxx make)

need_met() {
  case $1 in
    java) java_is_new_enough ;;
    # only to fetch Kafka's jars, once
    maven) have mvn || [[ -f $root/kafka/lib/pom.xml ]] ;;
    postgres) [[ -n $(postgres_bin) ]] ;;
    cc) have cc || have gcc || have clang ;;
    cxx) have c++ || have g++ || have clang++ ;;
    make) have make ;;
  esac
}

java_is_new_enough() {
  local java version
  java=$(java_command) || return 1
  version=$("$java" -version 2>&1 | sed -n -E 's/.*version "([0-9]+).*/\1/p' | head -n 1)
  [[ -n $version ]] && ((version >= 17))
}

setup() {
  local missing=() need
  for need in "${needs[@]}"; do
    need_met "$need" || missing+=("$need")
  done
  if ((${#missing[@]})); then
    say "missing: ${missing[*]}"
    setup_install "${missing[@]}"
    for need in "${missing[@]}"; do
      need_met "$need" || die "$need is still missing; install it and run \`make setup\` again"
    done
  fi
  setup_rust
  have npm || say "npm is missing: only \`make check\` needs it, to lint the protos"
  say "setup: nothing is missing"
}

setup_rust() {
  if have cargo || [[ -x $HOME/.cargo/bin/cargo ]]; then return; fi
  die "Rust is missing; install it with rustup (https://rustup.rs), which then fetches the version that rust-toolchain.toml names"
}

setup_install() {
  as_root=()
  if [[ $EUID -ne 0 ]]; then as_root=(sudo -n); fi
  if have apt-get && { [[ $EUID -eq 0 ]] || sudo -n true 2>/dev/null; }; then
    apt_install "$@"
  else
    setup_advice "$@"
    exit 1
  fi
}

apt() {
  ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 \
    apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

apt_install() {
  say "updating the package lists"
  apt update >/dev/null
  local packages=() package need
  for need in "$@"; do
    package=$(apt_package "$need")
    [[ -n $package ]] || die "no package here provides $need in a version we can use; install it by hand"
    packages+=("$package")
  done
  say "installing ${packages[*]}"
  local before=0
  if apt_keep_clusters_ours; then before=1; fi
  local result=0
  apt install --no-install-recommends "${packages[@]}" >&2 || result=$?
  if ((before)); then apt_give_clusters_back; fi
  ((result == 0)) || die "apt-get failed ($result); see above"
}

# apt_package <need>: the first of the packages that would do and that apt knows.
apt_package() {
  local candidates package
  case $1 in
    java) candidates='openjdk-17-jre-headless openjdk-21-jre-headless openjdk-25-jre-headless' ;;
    postgres) candidates='postgresql-17 postgresql-16 postgresql-15 postgresql-18' ;;
    maven) candidates=maven ;;
    cc) candidates=gcc ;;
    cxx) candidates=g++ ;;
    make) candidates=make ;;
  esac
  for package in $candidates; do
    if apt-cache show "$package" >/dev/null 2>&1; then
      printf '%s' "$package"
      return
    fi
  done
}

# The package of Postgres makes a cluster on port 5432 and starts it, unless told not
# to beforehand. Only where Postgres was never configured: nothing of the user's is
# changed, and afterwards the file is what the package would have put there.
cluster_conf=/etc/postgresql-common/createcluster.conf

apt_keep_clusters_ours() {
  [[ ! -e $cluster_conf ]] || return 1
  ${as_root[@]+"${as_root[@]}"} sh -c "mkdir -p '${cluster_conf%/*}' && echo 'create_main_cluster = false' >'$cluster_conf'"
}

apt_give_clusters_back() {
  local packaged=/usr/share/postgresql-common/createcluster.conf
  if [[ -f $packaged ]]; then
    ${as_root[@]+"${as_root[@]}"} cp "$packaged" "$cluster_conf"
  else
    ${as_root[@]+"${as_root[@]}"} rm -f "$cluster_conf"
  fi
}

setup_advice() {
  local apt_names=() need
  for need in "$@"; do
    case $need in
      java) apt_names+=(openjdk-17-jre-headless) ;;
      postgres) apt_names+=(postgresql) ;;
      cc) apt_names+=(gcc) ;;
      cxx) apt_names+=(g++) ;;
      *) apt_names+=("$need") ;;
    esac
  done
  say "this script cannot install that here; as an administrator, run what fits this machine:"
  say "  Debian, Ubuntu:  sudo apt-get install ${apt_names[*]}"
  say "  Fedora:          sudo dnf install$(setup_names dnf "$@")"
  say "  macOS:           brew install$(setup_names brew "$@")"
  say "Postgres must be $postgres_oldest or newer and Java 17 or newer; no Postgres service need run."
}

setup_names() {
  local manager=$1 need
  shift
  for need in "$@"; do
    case $manager:$need in
      dnf:java) printf ' java-17-openjdk-headless' ;;
      dnf:postgres) printf ' postgresql-server' ;;
      dnf:cxx) printf ' gcc-c++' ;;
      dnf:cc) printf ' gcc' ;;
      brew:java) printf ' openjdk@17' ;;
      brew:postgres) printf ' postgresql@17' ;;
      brew:cc | brew:cxx) printf ' gcc' ;;
      *) printf ' %s' "$need" ;;
    esac
  done
}
