"""AMQP 0-9-1: frames, a client for Twisted, and broker URIs."""
