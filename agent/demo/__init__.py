"""Demo plant to try Changeover on: lines, cameras, a scripted PLC and a live view."""
