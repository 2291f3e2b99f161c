"""Replay a trace on a fleet: queues and prefix caches in simulated time, exactly."""
