"""Entry point of `python -m agent`, the same as `changeover`."""

import sys

if __name__ == "__main__" and not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
    sys.path.pop(0)  # because `-m` put the working directory there, whose files must not be imported

from agent.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
