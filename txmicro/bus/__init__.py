"""The bus: connections to the broker, robust channels on them, publishing and receiving."""
