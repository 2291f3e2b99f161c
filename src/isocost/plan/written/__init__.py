"""Plans as files: written, read, and run again on any log."""
