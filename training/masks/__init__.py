"""Training of the embedded mask network on labelled procedural scenes."""
