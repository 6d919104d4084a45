"""The embedded broker: for one machine, in memory only."""
