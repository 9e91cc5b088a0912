"""DeepRT in a MRML scene: from nodes to what `deeprt` plans with, and from its results to nodes.

Runs in 3D Slicer and, without it, on the wheel ``slicer-core``. Knows no Qt and no web framework. Nothing here starts
a thread; long work runs in a process of its own (`deeprt_mrml.jobs`), which the caller polls.
"""
