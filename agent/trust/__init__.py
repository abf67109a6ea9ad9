"""Signatures of models: minisign files, the signed index, and the stick. Imports models, settings and messages."""
