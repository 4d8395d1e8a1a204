"""Samples on their way in: the stream, group commit, lanes, quarantine."""
