"""What is asked of a plan: the traffic by hour of the week, what it costs today, and what must hold."""
