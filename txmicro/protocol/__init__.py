"""The content of the bus: addresses, messages, formats, headers, and the names of exchanges and queues."""
