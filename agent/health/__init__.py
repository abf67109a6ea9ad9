"""Health of device and service: sensors, metrics and reports."""
