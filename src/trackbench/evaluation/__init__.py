"""Metrics, intervals, matching and latency: sees only labels and truth columns."""
