"""Hold isocost against measured files: rows, passed, failed, error and coverage of its intervals."""
