"""The web process: console and gateway. Imports neither a runtime nor paho; asks control and the workers."""
