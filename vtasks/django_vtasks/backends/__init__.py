"""Django's face of the brokers."""
