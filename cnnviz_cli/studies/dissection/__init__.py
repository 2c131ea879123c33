"""Network dissection: which channel finds which annotated thing. After Bau et al. (2017)."""
