"""Fitted estimators as files, torch modules and ONNX models."""
