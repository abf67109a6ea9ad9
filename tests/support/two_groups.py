"""A plant of two lines, the second of which has a group of its own."""

PLANT = """
[[stream]]
id = "cam-1"
line = "line-1"
source = "a.avi"
[[stream]]
id = "cam-2"
line = "line-2"
source = "b.avi"
[line.line-1]
default = "cap-check"
[line.line-2]
default = "cap-check"
group = "press"
[group.press]
memory = 0.25
"""
