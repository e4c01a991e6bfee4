# Shared by the scripts beside this folder: what a bare Debian 12 lacks, and how to build.
# Sourced by bash; expects to run from the root of the source tree.

say() { printf '\033[1m==> %s\033[0m (%s s)\n' "$*" "$SECONDS" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

build_packages=(g++ cmake ninja-build ccache pkg-config libboost1.81-dev libssl-dev zlib1g-dev libfmt-dev
  nlohmann-json3-dev libyaml-cpp-dev libcli11-dev prometheus-cpp-dev libpaho-mqtt-dev libpaho-mqttpp-dev)
test_packages=(libgtest-dev libgmock-dev libbenchmark-dev mosquitto prometheus prometheus-pushgateway chromium procps curl openssl)

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "packages are missing and this is neither root nor a user with sudo. As root: apt-get install ${missing[*]}"
  fi
}

# ensure_packages PACKAGE...: installs those that are not there; asks for nothing when all are.
ensure_packages() {
  missing=()
  local package
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  # Node.js may come from elsewhere; what counts is that the commands are there.
  command -v node >/dev/null || missing+=(nodejs)
  command -v npm >/dev/null || missing+=(npm)
  [ ${#missing[@]} = 0 ] && return 0
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  as_root apt-get update -qq
  # A CI machine is thrown away: no need to wait for its disk after every file.
  as_root apt-get install -y -qq --no-install-recommends ${CI:+-o Dpkg::Options::=--force-unsafe-io} \
    ca-certificates "${missing[@]}" >/dev/null ||
    die "apt-get could not install: ${missing[*]}"
}

# configure_and_build FOLDER TARGET... -- CMAKE_ARGUMENT...
configure_and_build() {
  local folder=$1 targets=()
  shift
  while [ $# -gt 0 ] && [ "$1" != -- ]; do targets+=("$1"); shift; done
  [ $# -gt 0 ] && shift
  export CCACHE_NOHASHDIR=1
  say "configuring $folder"
  cmake -S . -B "$folder" -G Ninja "$@" >"$folder.log" 2>&1 || { cat "$folder.log" >&2; die "cmake failed"; }
  say "building ${targets[*]:-everything} (several minutes the first time)"
  cmake --build "$folder" ${targets:+--target "${targets[@]}"} -- ${CI:+--quiet} || die "the build failed"
}
