"""Entry point of `python -m agent`, the same as `changeover`."""

import os
import sys

if __name__ == "__main__" and not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
    sys.path.pop(0)  # because `-m` put the working directory there, whose files must not be imported
if not sys.flags.isolated:  # PYTHONPATH names it as well, by "." or by an empty part
    _ours = (f"{sys.prefix}/", f"{sys.base_prefix}/")  # who stands in Python's own folders still needs them
    sys.path[:] = [
        entry
        for entry in sys.path
        if entry.startswith(_ours) or not (os.path.isdir(entry) and os.path.samefile(entry, "."))  # noqa: PTH112, PTH121 - pathlib may lie there
    ]

from agent.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
