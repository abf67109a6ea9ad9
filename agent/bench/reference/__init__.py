"""Subprocesses with torch and ultralytics: model builder, reference manager and competitors."""
