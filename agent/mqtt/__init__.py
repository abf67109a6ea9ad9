"""MQTT: connection, topics, retained states and outbox. The only importer of paho."""
