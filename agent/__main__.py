"""`python -m agent`, the same as `changeover`."""

from agent.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
