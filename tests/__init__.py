"""Tests of histozoo; `tests/fakes` is the bench they run on."""
