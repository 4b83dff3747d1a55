"""meshchat: the same chat rooms on every router of a mesh, with no server anywhere."""
