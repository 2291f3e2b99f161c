"""The problem as arrays, and its cheapest solution with a bound on what any other could cost."""
