"""Builds TensorRT engines in a walled process, which imports TensorRT inside its walls."""
