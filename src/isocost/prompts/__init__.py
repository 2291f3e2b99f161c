"""What a prompt's shape costs: prefixes that break, lives of caches, waiting, retrieval, lengths, rules."""
