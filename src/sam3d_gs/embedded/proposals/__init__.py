"""Which regions of a photo may be objects."""
