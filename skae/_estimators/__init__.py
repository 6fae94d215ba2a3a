"""The estimators: parameters, fitted state, methods."""
