"""Devices, threads, memory, folders and progress: nothing of autoencoders."""
