"""Builds TensorRT engines in a sandboxed process, which imports TensorRT inside the sandbox."""
