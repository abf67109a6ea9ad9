"""Messages of processes that are started for one job and gone after it. Imports messages."""
