"""Masks of any engine: prompts, detections, the choice among them, rules, files."""
