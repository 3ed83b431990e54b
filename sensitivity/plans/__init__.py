"""Plans applied to a model for a while, and plans that come with a ranking."""
