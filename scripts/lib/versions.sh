# shellcheck shell=bash
# From one version of the program to another, for scripts/install and for the Debian package. Sourced after service.sh.
# Reads: NO_START, WAS_ACTIVE (whether the service ran before) and READY_WITHIN_S; calls `use FOLDER` of the script that
# sources it, which has the service run the version in a folder from its next start on.

restarts() { systemctl show --property=NRestarts --value "$UNIT"; }

# Ready, and still the same process a little later: an agent that falls over at its first frame is not healthy.
becomes_ready() {
  local before
  if [ -n "$DRY_RUN" ]; then
    run systemctl restart "$UNIT"
    return 0
  fi
  say "starting; it may take $READY_WITHIN_S s to be ready ..."
  systemctl reset-failed "$UNIT" 2>/dev/null || true
  timeout "$READY_WITHIN_S" systemctl restart "$UNIT" || return 1
  before="$(restarts)"
  sleep 5
  systemctl is-active --quiet "$UNIT" && [ "$(restarts)" = "$before" ]
}

say_why() {
  say "the last lines of its journal:"
  journalctl --unit "$UNIT" --lines 15 --no-pager --output cat >&2 || true
}

take_back() {
  local old="$1" new="$2"
  run systemctl stop "$UNIT" # or systemd would go on trying the new one meanwhile
  if [ -z "$old" ]; then
    fail "it did not become ready, and there is no version before it to go back to; see above and \`changeover doctor\`"
  fi
  say "it did not become ready: going back to $(basename "$old")"
  use "$old"
  run rm -rf "$new"
  becomes_ready || fail "$(basename "$old") does not become ready either: \`changeover doctor\` says what is wrong"
  fail "the new version did not become ready, so $(basename "$old") runs again; see above"
}

# Keeps the one that runs and the one before.
forget_old() {
  local folder
  for folder in "$PREFIX"/versions/*; do
    case "$folder" in
      "$(link_target "$PREFIX/current")" | "$(link_target "$PREFIX/previous")" | "$PREFIX/versions/*") ;;
      *) run rm -rf "$folder" ;;
    esac
  done
}

start() {
  local old="$1" new="$2"
  if [ -n "$NO_START" ] || ! booted; then
    say "installed, not started"
  elif [ ! -e "$CONFIGURATION/changeover.toml" ]; then
    say "installed, not started: \`sudo changeover init\` asks for what $CONFIGURATION/changeover.toml has to say (there is an"
    say "  .example beside it), then: sudo changeover check && sudo systemctl start changeover"
  elif [ -n "$old" ] && [ -z "$WAS_ACTIVE" ]; then
    say "installed, not started, since it did not run before"
  elif becomes_ready; then
    say "ready: $(basename "$new")"
  else
    [ -n "$DRY_RUN" ] || say_why
    take_back "$old" "$new"
  fi
}

accepts_configuration() {
  local folder="$1"
  [ -e "$CONFIGURATION/changeover.toml" ] || return 0
  run "$folder/bin/changeover" check --config "$CONFIGURATION/changeover.toml" ||
    fail "the configuration above does not fit $(basename "$folder"); nothing was changed"
}
