"""The controllers and an instant kubelet, as far as a rollback can see them."""
