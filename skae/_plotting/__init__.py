"""Displays in scikit-learn's style."""
