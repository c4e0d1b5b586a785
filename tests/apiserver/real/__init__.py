"""A real control plane: its recorded answers, which the stand-in has to give too, and a cluster in its place."""
