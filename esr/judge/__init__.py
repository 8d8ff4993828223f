"""Judges: what splits a response into attempts and scores them."""
