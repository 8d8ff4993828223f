"""Directions: fitting vectors of a concept from texts, reading those of other libraries"""
