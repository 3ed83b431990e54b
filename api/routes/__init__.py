"""The routes: thin, one file for each group of resources."""
