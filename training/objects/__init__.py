"""Training of the embedded object network on ray-traced procedural shapes."""
