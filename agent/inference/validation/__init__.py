"""Proves models and compares precisions. Imports memory, backends and below."""
