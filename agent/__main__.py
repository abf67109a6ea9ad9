"""Entry point of `python -m agent`, the same as `changeover`."""

import sys

if __name__ == "__main__" and not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
    sys.path.pop(0)  # `-m` put the working folder there: what lies in it is no part of this program

from agent.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
