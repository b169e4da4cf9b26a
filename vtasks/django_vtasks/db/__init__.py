"""The Django app that holds the tables of the database backend."""
