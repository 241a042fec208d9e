"""trackbench: a fair, complete comparison of particle track finders.

Importing the package is cheap on purpose: it loads neither torch nor scikit-learn, because every
workflow job pays for it. Import the part you need, for example ``trackbench.data``.
"""

__version__ = "0.1.0"
