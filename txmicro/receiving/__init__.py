"""Jobs that are taken: duplicates, capacity, running handlers, retries, acknowledging. State machines without I/O."""
