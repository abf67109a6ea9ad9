"""Benchmark of the agent's throughput and latency against the bare runtime."""
