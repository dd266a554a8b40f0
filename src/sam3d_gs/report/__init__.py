"""The report, its pictures, the mask overlay and the live viewer."""
