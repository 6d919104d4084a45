"""The JSON API of the page of a SystemManager."""
