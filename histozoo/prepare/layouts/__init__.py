"""How single datasets lie on their authors' disks: one module per dataset, and `tile_table` for folders that hold a table."""
