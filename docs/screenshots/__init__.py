"""``make screenshots``: the pictures of the documentation, each from a real run."""
