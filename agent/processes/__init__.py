"""Starts, supervises and stops control's child processes. Imports no concrete child."""
