"""What people and alerts can ask for, each once: used by web, command line and worker alike."""
