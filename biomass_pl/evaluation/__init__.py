"""What happens after training, on tables."""
