"""Masks of any engine: files, rules, one choice among them."""
