"""The experiments behind Docs/results/deepboo.md: what is computed, and the page that is made of it."""
