"""Judgement of a dose: DVH, metrics, goals, gamma, reports."""
