"""One file per dataset: a tiny copy of how its authors lay it out."""
