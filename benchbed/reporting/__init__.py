"""The leaderboard: from the record of a sweep to tables, figures and a page."""
