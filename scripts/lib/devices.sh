# shellcheck shell=bash
# The drop-in for the devices of this box, and the groups that may use them. Reads only; $BOX, $DEV and $DEVICES stand in
# for /, /dev and /proc/devices in tests. Cameras that come later need nothing of this: the unit allows video4linux.

readonly BOX="${BOX:-}"
readonly DEV="${DEV:-$BOX/dev}"
readonly DEVICES="${DEVICES:-$BOX/proc/devices}"

# Names of the kernel's table that a model or a camera may need: GPUs, accelerators, cameras; never i2c, disks or input.
device_classes() {
  [ -r "$DEVICES" ] || return 0
  sed -n '/^Character/,/^Block/s/^ *[0-9]* \([A-Za-z0-9_.-]*\)$/\1/p' "$DEVICES" |
    grep -E '^(nvidia|nvhost|nvgpu|nvmap|nvsched|nvsciipc|host1x-fence|tegra|capture-|drm|accel)' | sort -u || true
}

# Nodes without a class of their own (a Jetson's are of `misc`), as they are now. CUDA on a Jetson opens host1x-fence at
# its start; v4l2-nv* may be links to /dev/null.
device_nodes() {
  find "$DEV" -maxdepth 3 -xtype c \( -name 'nvhost*' -o -name 'nvmap' -o -name 'nvsched*' -o -name 'nvsciipc' \
    -o -path "$DEV/nvgpu/*" -o -name 'host1x-fence' -o -name 'v4l2-nv*' -o -name 'tegra*' -o -path "$DEV/dma_heap/*" \
    -o -name 'nvidia*' \) 2>/dev/null | sort || true
}

# A camera behind Argus answers on a socket in /tmp, so the service must see the real one.
has_argus() { [ -S "$BOX/tmp/argus_socket" ] || [ -e "$BOX/usr/sbin/nvargus-daemon" ]; }

# An NVIDIA card of its own, whose driver is loaded; a Jetson may have the class, too.
has_card() {
  [ ! -e "$BOX/etc/nv_tegra_release" ] && [ ! -e "$DEV/nvmap" ] && device_classes | grep -qxE 'nvidia|nvidia-frontend'
}

device_drop_in() {
  local name
  echo "# Written by scripts/install for the devices that this box had then; \`scripts/install --devices\` writes it anew."
  echo "[Service]"
  for name in $(device_classes); do
    echo "DeviceAllow=char-$name rw"
  done
  for name in $(device_nodes); do
    echo "DeviceAllow=${name#"$BOX"} rw"
  done
  if has_argus; then
    echo "# nvargus-daemon listens on /tmp/argus_socket."
    echo "PrivateTmp=no"
  fi
  ! has_card || card_of_its_own
}

# Without a screen nobody makes /dev/nvidia-uvm before CUDA asks for it, and the service may not: so root does, before it
# starts. The m is for that: a unit's own ExecStartPre= is held to its devices as well. The class is known by then,
# because $MODULES_FILE has the module loaded when the system starts.
card_of_its_own() {
  echo "# The card's nodes, also on a box without a screen."
  echo "DeviceAllow=char-nvidia rwm"
  echo "DeviceAllow=char-nvidia-uvm rwm"
  echo "ExecStartPre=+-/usr/bin/nvidia-modprobe -u -c 0"
  echo "[Unit]"
  echo "Wants=nvidia-persistenced.service"
  echo "After=nvidia-persistenced.service systemd-modules-load.service"
}

# What systemd-modules-load loads when the system starts.
module_list() {
  echo "# Written by scripts/install: CUDA's memory driver, which a box without a screen does not load by itself."
  echo "nvidia-uvm"
}

device_groups() {
  local group
  for group in video render; do
    ! getent group "$group" >/dev/null || echo "$group"
  done
}
