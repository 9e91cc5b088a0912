"""What the panels of DeepBOO and DeepFluence share: widgets of 3D Slicer bound to a plan; nothing is computed here.

Every part takes widgets of a loaded ``.ui`` and functions to call. None keeps what the scene does not hold.
`dependencies` and `message_line` import nothing that may be missing in Slicer's Python, so that they can be used before
the rest: import the others once `dependencies.missing` is empty.
"""
