"""The benchmarks of `changeover bench`: the agent beside what it set out from, in one run, as ratios."""
