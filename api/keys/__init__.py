"""API keys: who may use the service, how much, and whose profiles and results are whose."""
