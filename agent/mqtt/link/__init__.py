"""Connection to the broker. The only importer of paho, with blocking_client."""
