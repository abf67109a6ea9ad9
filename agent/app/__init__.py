"""Composition root of the control process: starts senders before capturers, and stops in reverse."""
