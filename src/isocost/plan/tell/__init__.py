"""What a plan is told by: lines, limits, curves, levers, and why there is none."""
