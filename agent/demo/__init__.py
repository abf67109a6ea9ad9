"""A plant to try Changeover on: lines, cameras, a PLC and a live view."""
