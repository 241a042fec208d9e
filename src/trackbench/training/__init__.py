"""Training of learned trackers: truth to targets, losses, the one training loop and its checkpoints."""
