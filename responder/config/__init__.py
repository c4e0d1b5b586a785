"""Foundation, part one: durations, sizes, unions by key, text. It imports no other room."""
