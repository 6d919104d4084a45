"""Workers in a row: a routing slip, and a worker that forwards."""
