"""The commands of ``deeprt``, one module each."""
