"""An HTTP server with limits, on twisted.web, and Klein on top of it."""
