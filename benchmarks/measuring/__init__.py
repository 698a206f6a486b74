"""What the benchmarks share: rounds, statistics, goals, machine facts, the networks, digital baselines and peers."""
