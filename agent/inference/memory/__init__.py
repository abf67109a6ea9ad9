"""Keeps the ledger of resident models within the memory budget. Imports backends and below."""
