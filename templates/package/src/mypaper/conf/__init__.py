"""Configs, laid out like AttendGen's own."""
