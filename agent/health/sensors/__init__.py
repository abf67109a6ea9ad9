"""Sensor readings, memory, and the caps that follow."""
