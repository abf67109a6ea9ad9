"""Prometheus metrics and the HTTP server for them."""
