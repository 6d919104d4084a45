"""Small parts that everything else uses."""
