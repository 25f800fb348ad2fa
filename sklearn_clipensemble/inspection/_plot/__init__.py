"""The Displays. matplotlib is imported when something is drawn, never before."""
