"""A worker's state machines, connected to each other and to the bus."""
