"""Segments that a machine can deliver, and their dose."""
