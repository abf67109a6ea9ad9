"""Plays traces of changeovers against eviction policies."""
