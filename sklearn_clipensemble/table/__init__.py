"""The table between the steps: how it is read, and what all classifiers on tables share."""
