"""Networks that propose beams and predict fluence: their inputs, layers and files."""
