"""DeepRT plans intensity-modulated radiotherapy in seconds. Research software, not for clinical use."""

__version__ = "0.1.0"
