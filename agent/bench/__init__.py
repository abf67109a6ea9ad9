"""Benchmarks of `changeover bench`: ratios of the agent to a reference, measured side by side in one run."""
