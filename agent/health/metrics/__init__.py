"""Answers scrapes with Prometheus metrics."""
