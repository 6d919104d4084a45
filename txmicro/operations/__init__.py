"""Operators' tasks: dead letters, unused queues, permissions."""
