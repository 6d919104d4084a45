"""Systems built with txmicro."""
