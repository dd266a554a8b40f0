"""Words for regions, and regions for words."""
