"""Keeps the ledger of models and the budget. Imports backends and below."""
