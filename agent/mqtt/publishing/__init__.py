"""Publishing: order, retries and replay of all messages. Imports outbox, link and below."""
