"""Rows of X: how they are stored, validated, split and multiplied."""
