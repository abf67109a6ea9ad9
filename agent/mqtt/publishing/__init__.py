"""Decides what goes to the broker and when. Imports outbox, link and below."""
