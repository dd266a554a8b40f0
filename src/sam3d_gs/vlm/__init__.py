"""A vision-language model that names the objects: its server, the request, the reading and cleaning of its answer."""
