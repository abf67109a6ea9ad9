"""Life cycle of comparisons: asked for, loaded, running, decided; pure as all of control."""
