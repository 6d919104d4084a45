"""An HTTP server with limits, on twisted.web."""
