"""Unsupervised change detection for pairs of satellite and aerial images."""

__version__ = "0.1.0"
