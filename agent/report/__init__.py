"""What the device's own records tell: which model served when, and how a comparison went."""
