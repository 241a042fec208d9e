"""A whole study in one process tree within a time limit: for machines that are lent for minutes, without Snakemake.

Simulates parents, cuts sets, trains models and evaluates rows as the workflow's rules do, with the same functions, the
same files and the same configuration. What is done is skipped, so that one call after the other brings it to its end.
"""
