"""Reading tiles, splitting them by group, and mixing them into batches. Each module imports what it needs; this file imports nothing."""
