"""Reading, checking and preparing TrackML events."""
