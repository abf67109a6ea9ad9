# shellcheck shell=bash
# What a Jetson's venv uses of the system's Python: JetPack's OpenCV and TensorRT, and torch and ONNX Runtime where
# somebody put them there. Sourced after setup.sh, service.sh and packages.sh.

readonly OLDEST_OPENCV="4.7" # the first whose GStreamer pipelines have time-outs

# Whether the system's OpenCV is worth hiding pip's for: it has GStreamer, and is new enough for its time-outs.
has_better_opencv() {
  is_jetson || return 1
  "$SYSTEM_PYTHON" -I -B -c '
import sys, cv2
wanted = [int(part) for part in sys.argv[1].split(".")]
found = [int(part) for part in cv2.__version__.split("-")[0].split(".")[:2]]
sys.exit(found < wanted or not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER))' "$OLDEST_OPENCV" 2>/dev/null
}

# prefer_system VENV: has the venv use the system's OpenCV, and says which packages it really imports, and from where.
prefer_system() {
  local python="$1/bin/python" name said
  is_jetson || return 0
  if has_better_opencv; then
    run "$python" -I -m pip uninstall --yes opencv-python
  elif system_has cv2; then
    say "the system's cv2 is older than $OLDEST_OPENCV or has no GStreamer: pip's is used, and gst-launch-1.0 for pipelines"
  fi
  [ -z "$DRY_RUN" ] || { python="$SYSTEM_PYTHON" && say "the system's Python, which the venv will see:"; }
  for name in cv2 tensorrt torch onnxruntime; do
    said="$("$python" -I -B -c "
import os, sys, $name
venv = os.path.realpath(sys.prefix) if sys.prefix != sys.base_prefix else None
own = venv and os.path.realpath($name.__file__).startswith(venv + os.sep)
print($name.__version__, 'from pip' if own else 'of the system')" 2>/dev/null || true)"
    say "$name: ${said:-not there}"
  done
  case "$(left_out)" in
    *torchvision*) system_has torchvision || say "torch of the system has no torchvision beside it: install NVIDIA's for it" ;;
  esac
}

# sysfs is enough on a Jetson: power, temperatures, load and mode, without a group.
says_of_jtop() {
  [[ ",$EXTRAS," == *,jetson,* ]] || return 0
  say "extra jetson: sysfs is enough for the service, which is not put into the group jtop: its members can change the"
  say "  board's clocks. The extra is for a user of your own that you put there (docs/gpu.md)"
}
