"""What the package costs, each figure a ratio of things measured in turn in one run. `make bench`
runs all of them.
"""
