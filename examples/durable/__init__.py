"""Durable jobs: the broker keeps them, they are tried again, and what fails for good becomes a dead letter."""
