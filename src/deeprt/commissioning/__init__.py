"""From measurements in a water tank to a treatment machine."""
