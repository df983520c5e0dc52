"""Landed files: written, hashed, compressed, synced and read back."""
