"""Tables and texts about them: readers of data sets, and the data module."""
