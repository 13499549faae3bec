"""Models side by side: encoders x tasks x protocols -> stored predictions -> standings with intervals -> a page to read.

cells.py measures one encoder on one task by one protocol and keeps the predictions; measure.py does so for all, and goes on where it was
stopped; standings.py makes values, paired differences and ranks of them; table.py and page.py write what people read.
"""
