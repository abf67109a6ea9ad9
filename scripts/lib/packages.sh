# shellcheck shell=bash
# Puts the packages of one version into a venv, each of them held against the lock. Sourced after setup.sh and service.sh.
# Reads: HERE, the checkout; WORK, a folder of ours; WHEELS, SHA256 and EXTRAS, as scripts/install was given them, or empty.

# --no-deps, because the lock is complete but for what it leaves out on purpose: openvino-telemetry.
readonly LOCKED=(--no-deps --no-input --disable-pip-version-check --require-hashes --only-binary :all:)

is_jetson() { [ -e "${BOX:-}/etc/nv_tegra_release" ] || grep -qs Jetson "${BOX:-}/proc/device-tree/model"; }

readonly SYSTEM_PYTHON="${SYSTEM_PYTHON:-/usr/bin/python3}" # a stand-in in tests, as BOX is for /

# The venv sees the system's packages on a Jetson only (make_venv in scripts/install). -B, because a dry run writes nothing.
system_has() { is_jetson && "$SYSTEM_PYTHON" -I -B -c "import $1" 2>/dev/null; }

# The packages of the lock that would hide the system's own, which were built for the board's GPU; none on a PC.
left_out() {
  ! system_has torch || printf '%s\n' torch torchvision triton
  ! system_has onnxruntime || echo onnxruntime
}

# without_left_out: reads the names of lock files; prints them, or those of copies without these packages.
without_left_out() {
  local file copy names
  names="$(left_out | paste -sd'|')"
  [ -z "$names" ] || say "left out, since the system's Python has its own: ${names//|/, }"
  while read -r file; do
    if [ -n "$names" ] && [ -z "$DRY_RUN" ]; then
      copy="$WORK/$(basename "$file")"
      awk -v names="^($names)==" '/^[^ #]/ { skip = ($0 ~ names) } !skip' "$file" >"$copy"
      file="$copy"
    fi
    echo "$file"
  done
}

wheel_of_this() {
  find "${WHEELS:-$WORK/wheel}" -maxdepth 1 -name 'changeover-*.whl' | sort -V | tail -n 1
}

# The commit of this checkout; nothing where it is none.
commit_here() { "$1" -I -B "$HERE/agent/__init__.py" | sed -n 's/.*+g//p'; }

# Builds changeover's wheel from a copy, so that root leaves nothing behind in a user's checkout.
build_wheel() {
  local python="$WORK/build/bin/python"
  mkdir "$WORK/source"
  cp -r "$HERE/agent" "$HERE/setup.py" "$HERE/pyproject.toml" "$HERE/README.md" "$HERE/LICENSE" "$WORK/source/"
  commit_here "$1" >"$WORK/source/agent/built_from.txt" # the copy is no checkout
  "$1" -I -m venv "$WORK/build"
  "$python" -I -m pip install "${LOCKED[@]}" --requirement "$HERE/lock/build.txt"
  "$python" -I -m pip wheel --no-input --no-index --no-deps --no-build-isolation --wheel-dir "$WORK/wheel" "$WORK/source"
}

# The requirement that pip holds changeover's own wheel against. What is written beside the wheel shows damage;
# against who could write there, the hash has to come another way: --sha256.
own_requirement() {
  local wheel="$1" hash="$SHA256"
  if [ -z "$hash" ] && [ -n "$WHEELS" ]; then
    hash="$(cut -d' ' -f1 "$wheel.sha256" 2>/dev/null)" ||
      fail "$wheel.sha256 is missing: make the folder with scripts/wheels, or give --sha256"
  elif [ -z "$hash" ]; then
    hash="$(sha256sum "$wheel" | cut -d' ' -f1)" # built a moment ago, in a folder of ours
  fi
  [[ "$hash" =~ ^[0-9a-f]{64}$ ]] || fail "$wheel.sha256 holds no sha256"
  echo "changeover==$(basename "$wheel" | cut -d- -f2) --hash=sha256:$hash"
}

needs_lock_of_extras() {
  local name
  for name in ${EXTRAS//,/ }; do
    [[ "$name" =~ ^[a-z]+$ && -f "$HERE/lock/$name.txt" ]] ||
      misused "there is no extra $name (ultralytics, onnxruntime, supply, web, nvidia, jetson)"
  done
}

# The extra `supply` always comes along, because an installed device shall fetch what it is told.
lock_files() {
  local folder="$HERE/lock" name
  ! is_jetson || folder="$HERE/lock/jetpack"
  for name in base supply ${EXTRAS//,/ }; do echo "$folder/$name.txt"; done | awk '!seen[$0]++'
}

# for_target PYTHON VERSION MACHINE FILE...: the lines of lock files that hold for another Python or machine, since pip
# reads markers as the one that it runs on. PYTHON has pip.
for_target() {
  local python="$1"
  shift
  "$python" -I -c '
import re, sys
from pip._vendor.packaging.markers import Marker
version, machine, *files = sys.argv[1:]
target = {"python_full_version": version + ".0", "python_version": version, "platform_machine": machine, "sys_platform": "linux"}
for file in files:
    for entry in re.split(r"\n(?=\S)", open(file, encoding="utf-8").read().replace("\\\n", " ")):
        name, _, rest = entry.partition(" --hash")
        requirement, _, marker = name.partition(";")
        if rest and (not marker or Marker(marker.strip()).evaluate(target)):
            print(requirement.strip(), "--hash" + " ".join(rest.split()))
' "$@"
}

platforms() {
  local machine="$1" minor
  for minor in $(seq 5 39); do echo "--platform=manylinux_2_${minor}_$machine"; done
  echo "--platform=manylinux2014_$machine"
  echo "--platform=linux_$machine"
}

# Installs into the venv $1. Nothing is installed whose sha256 is not in the lock: neither another version nor another file of the same name.
install_packages_of() {
  local folder="$1" python="$1/bin/python" options=("${LOCKED[@]}") file
  while read -r file; do options+=(--requirement "$file"); done < <(lock_files | without_left_out)
  options+=(--requirement "${WORK:-/tmp/work}/own.txt") # a dry run has no folder of its own
  if [ -n "$WHEELS" ]; then
    options+=(--no-index --find-links "$WHEELS")
  else
    options+=(--find-links "${WORK:-/tmp/work}/wheel")
  fi
  if [ -n "$DRY_RUN" ]; then
    run "$python" -I -m pip install "${options[@]}"
    return
  fi
  [ -n "$WHEELS" ] || step "building changeover" build_wheel "$python"
  own_requirement "$(wheel_of_this)" >"$WORK/own.txt"
  step "installing packages" "$python" -I -m pip install "${options[@]}"
}

# pip's command would import what PYTHONPATH names, or what lies in its user's own site-packages: root's too.
isolate_command() {
  run sed -i '1s|^\(#!/.*/python[0-9.]*\)$|\1 -I|' "$1/bin/changeover"
}
