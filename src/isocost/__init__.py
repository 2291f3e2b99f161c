"""isocost: the least-cost way to serve a language-model workload."""
