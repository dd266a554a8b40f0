"""What a user looks at: the report, pictures, overlays and the live viewer."""
