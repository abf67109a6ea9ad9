"""Plant under measurement: agent, broker, models and an observing PLC."""
