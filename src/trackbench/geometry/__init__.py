"""Detector geometry: volumes, layers and modules, coordinates, surface projection."""
