# shellcheck shell=bash
# The drop-in for the devices of this box, and the groups that may use them. Reads only; $DEV and $DEVICES stand in for
# /dev and /proc/devices in tests. Cameras that come later need nothing of this: the unit itself allows video4linux.

readonly DEV="${DEV:-/dev}"
readonly DEVICES="${DEVICES:-/proc/devices}"

# Names of the kernel's table that a model or a camera may need: GPUs, accelerators, cameras; never i2c, disks or input.
device_classes() {
  [ -r "$DEVICES" ] || return 0
  sed -n '/^Character/,/^Block/s/^ *[0-9]* \([A-Za-z0-9_.-]*\)$/\1/p' "$DEVICES" |
    grep -E '^(nvidia|nvhost|nvgpu|nvmap|nvsciipc|tegra|capture-|drm|accel)' | sort -u || true
}

# Nodes without a class of their own (a Jetson's are of `misc`), as they are now.
device_nodes() {
  find "$DEV" -maxdepth 3 -type c \( -name 'nvhost*' -o -name 'nvmap' -o -name 'nvsciipc' -o -path "$DEV/nvgpu/*" \
    -o -name 'tegra*' -o -path "$DEV/dma_heap/*" -o -name 'nvidia*' \) 2>/dev/null | sort || true
}

# A camera behind Argus answers on a socket in /tmp, so the service must see the real one.
has_argus() { [ -S /tmp/argus_socket ] || [ -e /usr/sbin/nvargus-daemon ]; }

device_drop_in() {
  local name
  echo "# Written by scripts/install for the devices that this box had then; \`scripts/install --devices\` writes it anew."
  echo "[Service]"
  for name in $(device_classes); do
    echo "DeviceAllow=char-$name rw"
  done
  for name in $(device_nodes); do
    echo "DeviceAllow=$name rw"
  done
  if has_argus; then
    echo "# nvargus-daemon listens on /tmp/argus_socket."
    echo "PrivateTmp=no"
  fi
}

device_groups() {
  local group
  for group in video render; do
    ! getent group "$group" >/dev/null || echo "$group"
  done
}
