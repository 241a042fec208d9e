"""Fit track candidates and clean them up: the helix model and what follows from it, for every tracker."""
