"""Conda environments without a conda: a local channel, a stand-in for the executable, the names of packages."""
