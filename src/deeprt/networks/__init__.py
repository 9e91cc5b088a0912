"""Networks that predict the fitness of candidate beams: their inputs, layers and files."""
