"""Choice of beam orientations."""
