"""Foundation, part two: AWS, object stores, child processes, streams and background loops. It may import `config`."""
