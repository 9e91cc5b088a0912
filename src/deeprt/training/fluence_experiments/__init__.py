"""What the fluence networks were measured to do, and the page that says it."""
