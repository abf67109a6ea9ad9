"""Builds artifacts for this device, in processes of their own. Imports serving, validation, memory and below."""
