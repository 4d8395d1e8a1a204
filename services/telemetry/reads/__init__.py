"""Samples read back: queries, decimation, the newest, live."""
