"""Which workers are on the bus."""
