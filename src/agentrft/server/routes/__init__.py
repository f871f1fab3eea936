"""The routes of the API, a file for each group of the hosted one's."""
