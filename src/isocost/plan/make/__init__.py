"""Plans in the making: solved, drafted, replayed, and set against single deployments."""
