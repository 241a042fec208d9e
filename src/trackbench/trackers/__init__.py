"""Track finders: one file each, found by module name.

Every public module of this package (except ``base``) is a tracker; helpers shared by several
trackers live in the sub-package ``trackbench.trackers.layers``.
"""
