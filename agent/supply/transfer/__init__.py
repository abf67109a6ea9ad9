"""The transfer of one file into its part: opened, read, hashed, resumed. Imports sources and bounds."""
