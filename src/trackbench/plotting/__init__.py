"""Figures: every number behind a figure is also written as CSV."""
