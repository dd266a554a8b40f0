"""Phrases by a vision-language model: its server, the request, parsing and cleaning up the answer."""
