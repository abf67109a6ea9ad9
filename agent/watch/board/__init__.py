"""Pure model of the view: folds a device's messages into rows. Imports messages and mqtt.topics."""
