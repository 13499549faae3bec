"""Stand-ins for what a test may not touch: the Hub, GitHub, a full disk, a killed process. Imports nothing by itself."""
