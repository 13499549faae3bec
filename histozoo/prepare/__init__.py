"""From a dataset as its authors published it to a table of tiles: layouts read, rules cut, the engine writes.

    archive or folder -> sources.Source -> layouts (Picture, Marks) -> rules (Cut) -> engine -> ROOT/<folder>/labels.csv + tiles

Nothing here imports torch: workers stay small, and `histozoo prepare` starts at once.
"""
