"""What an estimator is given: model, data, rows and formats, and how its work is cut into pieces."""
