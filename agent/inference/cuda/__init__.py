"""A GPU's driver by ctypes: contexts, memory, streams and graphs. Imports messages only."""
