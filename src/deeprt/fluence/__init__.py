"""Fluence: objectives, the problem they make up, and its solvers."""
