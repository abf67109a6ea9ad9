# shellcheck shell=bash
# Sets up a fresh Debian or Ubuntu for the scripts beside this folder; sourced by them, from the project's root.
# Does only what is still missing, so a second run takes no time and needs no network.

readonly VENV=".venv"
LOG="${LOG:-.cache/setup.log}"

say() { printf 'setup: %s\n' "$*" >&2; }

fail() {
  printf 'setup failed: %s\n' "$*" >&2
  exit 1
}

# Runs a command, shown and logged; on failure ends with one line that says what the log's words mean.
step() {
  local what="$1"
  shift
  say "$what ..."
  "$@" 2>&1 | tee "$LOG" >&2 || fail "$what: $(reason_of)"
}

reason_of() {
  if grep -qiE 'no space left' "$LOG"; then
    echo "no space left on the disk of $PWD or of ${TMPDIR:-/tmp}"
  elif grep -qiE 'certificate' "$LOG" && ! grep -qi 'Updating certificates' "$LOG"; then
    echo "the package source's certificate is not trusted here (is a company's proxy in between?)"
  elif grep -qiE 'temporary failure|could not resolve|name or service|network is unreachable|connection (refused|timed out|broken)|NewConnectionError|failed to fetch|max retries|proxy' "$LOG"; then
    echo "no network, or the package source does not answer"
  elif grep -qiE 'permission denied|not permitted|read-only file system|EACCES' "$LOG"; then
    echo "no permission to write there"
  elif grep -qi 'from versions: none' "$LOG"; then
    echo "no network, or the package source has nothing for this Python and machine"
  elif grep -qiE 'no matching distribution' "$LOG"; then
    echo "no package for this Python and machine: $(grep -iE 'no matching distribution' "$LOG" | tail -n 1)"
  elif grep -qiE 'unable to locate package|no installation candidate' "$LOG"; then
    grep -iE 'unable to locate package|no installation candidate' "$LOG" | tail -n 1
  else
    echo "see $LOG"
  fi
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    env DEBIAN_FRONTEND=noninteractive "$@"
  else
    sudo env DEBIAN_FRONTEND=noninteractive "$@"
  fi
}

install_packages() {
  command -v apt-get >/dev/null || fail "needs the system packages $* (no apt-get here: install them by hand)"
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "needs root or sudo for: apt-get install $*"
    sudo -n true 2>/dev/null || [ -t 0 ] || fail "sudo wants a password; run first: sudo apt-get install $*"
  fi
  step "apt-get install $*" update_and_install "$@"
}

# One step, as an update without a network is no failure to apt-get; then the installation knows no such package.
update_and_install() {
  as_root apt-get update -q
  as_root apt-get install -q -y --no-install-recommends "$@"
}

has_library() {
  local known
  known="$(PATH="$PATH:/usr/sbin:/sbin" ldconfig -p)"
  [[ "$known" == *"$1 "* ]]
}

# The system packages of what opencv-python's wheel links to and does not bring, as far as they are missing; one a line.
missing_libraries() {
  has_library libGL.so.1 || echo libgl1
  has_library libgthread-2.0.so.0 || echo libglib2.0-0
  has_library libxcb.so.1 || echo libxcb1
}

system_libraries() {
  local missing=()
  mapfile -t missing < <(missing_libraries)
  [ "${#missing[@]}" = 0 ] || install_packages "${missing[@]}"
}

# What the demo starts as its broker. The package's own service stays off where it came for that alone.
mosquitto_program() {
  # Debian puts it into /usr/sbin, which is not on every user's PATH.
  ! PATH="$PATH:/usr/sbin" command -v mosquitto >/dev/null || return 0
  install_packages mosquitto
  [ ! -d /run/systemd/system ] || as_root systemctl disable --quiet --now mosquitto.service
}

broker() {
  local missing=()
  mosquitto_program
  command -v mosquitto_sub >/dev/null || missing+=(mosquitto-clients)
  command -v openssl >/dev/null || missing+=(openssl) # makes the tests' certificates
  [ "${#missing[@]}" = 0 ] || install_packages "${missing[@]}"
}

# Tests read pipelines, and a camera's RTSP server of their own.
gstreamer() {
  local missing=()
  command -v gst-launch-1.0 >/dev/null || missing+=(gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good)
  /usr/bin/python3 -I -c 'import gi; gi.require_version("GstRtspServer", "1.0")' 2>/dev/null ||
    missing+=(python3-gi gir1.2-gst-rtsp-server-1.0)
  gst-inspect-1.0 x265enc >/dev/null 2>&1 || missing+=(gstreamer1.0-plugins-bad)
  gst-inspect-1.0 x264enc >/dev/null 2>&1 || missing+=(gstreamer1.0-plugins-ugly)
  [ "${#missing[@]}" = 0 ] || install_packages "${missing[@]}"
}

# Tests give the demo a network of its own (unshare is in every system).
network_tools() {
  PATH="$PATH:/usr/sbin:/sbin" command -v ip >/dev/null || install_packages iproute2
}

# Tests exchange signatures with it.
signing_tools() { command -v minisign >/dev/null || install_packages minisign; }

# For the tests of metrics and alert rules: unpacked, not installed, since the package starts a server of its own.
# Without it these tests are left out.
monitoring_tools() {
  local folder=".cache/prometheus"
  if command -v promtool >/dev/null || [ -x "$folder/usr/bin/promtool" ]; then
    return
  fi
  say "unpacking prometheus, for tests only ..."
  rm -rf "$folder"
  mkdir -p "$folder"
  (
    cd "$folder"
    apt-get download -q prometheus || { as_root_quietly apt-get update -q && apt-get download -q prometheus; }
    dpkg -x prometheus_*.deb .
    rm -f prometheus_*.deb
  ) >"$LOG" 2>&1 || say "no prometheus here: its tests are left out"
}

as_root_quietly() { [ "$(id -u)" = 0 ] && "$@"; }

# Python is run isolated (-I) everywhere: a file beside us that is named like a module must not run, least of all as root.
fits() { command -v "$1" >/dev/null && "$1" -I -B -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

find_python() {
  local name
  for name in "${PYTHON:-python3}" python3.13 python3.12 python3.11 python3.10; do
    if fits "$name"; then
      echo "$name"
      return
    fi
  done
}

has_venv() { "$1" -I -B -c 'import ensurepip, venv' 2>/dev/null; }

# missing_python [PYTHON]: the system packages of a Python with venv, as far as they are missing; one a line.
missing_python() {
  local python="${1:-$(find_python)}"
  if [ -z "$python" ]; then
    printf '%s\n' python3 python3-venv
  elif ! has_venv "$python"; then
    "$python" -I -B -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'
  fi
}

virtual_environment() {
  local python missing=()
  if fits "$VENV/bin/python" && "$VENV/bin/python" -I -m pip --version >/dev/null 2>&1; then
    return
  fi
  mapfile -t missing < <(missing_python)
  [ "${#missing[@]}" = 0 ] || install_packages "${missing[@]}"
  python="$(find_python)"
  [ -n "$python" ] || fail "needs Python 3.10 or newer; this system has $(python3 --version 2>&1) (set PYTHON=... to another)"
  step "making $VENV with $("$python" --version)" "$python" -I -m venv --clear "$VENV"
}

# packages EXTRAS STAMP...: installs this project with EXTRAS, unless that was done for this pyproject.toml. The first
# STAMP names this set of extras, the others the smaller sets that it holds.
packages() {
  local extras="$1" stamp wanted
  shift
  wanted="$({ cat pyproject.toml; "$VENV/bin/python" --version; pwd; } | sha256sum)"
  if [ -f "$VENV/.setup-$1" ] && [ "$(cat "$VENV/.setup-$1")" = "$wanted" ]; then
    return
  fi
  step "installing changeover${extras:+ with $extras} (a few minutes at first)" \
    "$VENV/bin/python" -I -m pip install --disable-pip-version-check --editable ".$extras"
  for stamp in "$@"; do
    echo "$wanted" >"$VENV/.setup-$stamp"
  done
}

# begin_setup [FOLDER]: two scripts started at once must not install into each other, nor both into FOLDER (.cache).
begin_setup() {
  local folder="${1:-.cache}"
  { mkdir -p "$folder" 2>/dev/null && [ -w "$folder" ]; } || fail "no permission to write in $PWD"
  exec 9>"$folder/setup.lock"
  flock -n 9 || { say "waiting for another setup" && flock 9; }
}

end_setup() { exec 9>&-; }
