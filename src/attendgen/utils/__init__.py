"""What every other package may use; nothing here imports torch."""
