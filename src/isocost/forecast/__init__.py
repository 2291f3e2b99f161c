"""What prices and demand may do next: distributions fitted to dated facts, and held against simple rules."""
