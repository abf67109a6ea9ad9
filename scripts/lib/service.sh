# shellcheck shell=bash disable=SC2034
# What scripts/install and scripts/uninstall share: where things are, and steps that --dry-run only shows.
# Sourced after setup.sh. Everything of one version lies below $PREFIX/versions/NAME; $PREFIX/current says which one runs.
# Reads: PREFIX, the folder of the program.

readonly CONFIGURATION="/etc/changeover"
readonly DATA="/var/lib/changeover"
readonly UNIT="changeover.service"
readonly UNIT_FILE="/etc/systemd/system/$UNIT"
readonly STICK_UNIT_FILE="/etc/systemd/system/changeover-stick@.service"
readonly STICK_RULES_FILE="/etc/udev/rules.d/90-changeover-stick.rules"
readonly DEVICES_FILE="/etc/systemd/system/$UNIT.d/50-devices.conf"
readonly MODULES_FILE="/etc/modules-load.d/changeover.conf"
readonly SYSUSERS_FILE="/etc/sysusers.d/changeover.conf"
readonly TMPFILES_FILE="/etc/tmpfiles.d/changeover.conf"
readonly COMMAND="/usr/local/bin/changeover"
readonly OLDEST_SYSTEMD=247 # the first with LoadCredential=

DRY_RUN=""

# Runs one step, or shows it.
run() {
  if [ -n "$DRY_RUN" ]; then
    printf 'would run: %s\n' "$*"
  else
    "$@"
  fi
}

# Writes standard input to a file, whole or not at all; or shows that it would.
write() {
  local file="$1" mode="${2:-0644}" draft
  if [ -n "$DRY_RUN" ]; then
    printf 'would write: %s\n' "$file"
    cat >/dev/null
    return
  fi
  install -d "$(dirname "$file")"
  draft="$(mktemp "$file.XXXXXX")"
  cat >"$draft"
  chmod "$mode" "$draft"
  mv -f "$draft" "$file"
}

needs_root() {
  [ "$(id -u)" = 0 ] || [ -n "$DRY_RUN" ] || fail "needs root: sudo scripts/$(basename "$0") (--dry-run shows the steps without)"
}

# Whether systemd runs here; in a chroot, where an image is made, it does not.
booted() { [ -d /run/systemd/system ]; }

needs_systemd() {
  local version
  command -v systemctl >/dev/null || fail "needs systemd: there is no systemctl here"
  version="$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')"
  [ "${version:-0}" -ge "$OLDEST_SYSTEMD" ] || fail "needs systemd $OLDEST_SYSTEMD or newer; this is ${version:-unknown}"
}

# One program a device: the Debian package has its own unit, which this one would hide.
needs_no_package() {
  [ ! -e /usr/lib/changeover/package ] ||
    fail "the Debian package changeover is here: $1 (apt-get remove changeover; configuration and data stay)"
}

# A link that is the old one or the new one at every moment.
point() {
  local link="$1" target="$2"
  run ln -sfn "$target" "$link.new"
  run mv -fT "$link.new" "$link"
}

link_target() { readlink "$1" 2>/dev/null || true; }

one_at_a_time() {
  [ -z "$DRY_RUN" ] || return 0
  install -d "$PREFIX"
  exec 8>"$PREFIX/.lock"
  flock -n 8 || fail "another installation is at work (it holds $PREFIX/.lock)"
}

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }

fail() {
  printf '%s failed: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

misused() {
  printf '%s: %s; see --help\n' "$(basename "$0")" "$*" >&2
  exit 2
}
