"""Sensor readings, memory, and the caps on model variants that follow from them."""
