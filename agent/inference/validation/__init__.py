"""Checks models before they serve, and compares precisions. Imports memory, backends and below."""
