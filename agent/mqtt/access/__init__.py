"""Learns what a broker denies, and asks for subscriptions until they deliver."""
