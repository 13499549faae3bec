"""`python -m histozoo.cli`."""

from histozoo.cli import main

main()
