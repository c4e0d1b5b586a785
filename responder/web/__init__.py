"""HTTP: alerts in, and everything that is known out."""
