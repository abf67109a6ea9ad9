"""Tries everything that the agent will need, and says of each thing that it is good or what to do."""
