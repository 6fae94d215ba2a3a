"""Devices, threads, memory, storage and progress: nothing specific to autoencoders."""
