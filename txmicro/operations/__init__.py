"""What operators do: dead letters, unused queues, permissions."""
