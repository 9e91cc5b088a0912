"""Training of the networks: cohorts, data sets, the training loop, experiments."""
