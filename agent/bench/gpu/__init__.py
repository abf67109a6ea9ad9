"""A checklist of what only a machine with an NVIDIA GPU can show. Imports inference and below."""
