"""Studies: what is found out of all images of a folder together, one package or file each.

A study imports no other. What several share lies in `studies.common`, or in `run` where it knows no study.
"""
