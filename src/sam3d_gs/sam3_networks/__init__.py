"""Masks by SAM 3: two networks that answer phrases, boxes and points alike, and one way to choose among their masks."""
