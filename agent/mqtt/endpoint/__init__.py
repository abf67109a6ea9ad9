"""Broker address, credentials and the reasons of failed connects."""
