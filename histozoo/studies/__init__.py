"""Studies: the three papers' questions, each one file with two presets, run to a report that says nothing its intervals do not.

settings.py reads the file; multitask.py, segmentation.py and slides.py measure; comparing.py decides which differences count and says
so; drawing.py and document.py make plots and pages; folder.py keeps a study's folder; run.py
joins them.
"""
