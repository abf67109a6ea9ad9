"""Pure model of the view: turns a device's messages into rows. Imports messages and mqtt.topics."""
