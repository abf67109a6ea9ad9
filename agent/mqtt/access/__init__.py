"""Subscriptions, and the rights that the broker denies."""
