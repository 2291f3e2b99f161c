"""What the answers are worth: margin by customer, feature and price plan; the price of a margin."""
