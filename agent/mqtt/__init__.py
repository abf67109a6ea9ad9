"""The link to the broker: connection, topics, what is retained, what is kept for later. The only importer of paho."""
