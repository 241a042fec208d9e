"""Building blocks shared by several trackers."""
