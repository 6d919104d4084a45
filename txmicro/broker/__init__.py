"""The embedded broker: for one machine, everything in memory."""
