"""Displays, in the way of scikit-learn."""
