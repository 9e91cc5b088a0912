"""A stand-in for Slicer's application in which scripted modules run: Qt after PythonQt's rules, over real MRML."""
