"""Training: from a recipe to a model folder.

``run.py`` is the way: ``recipe.py`` (its tables in ``recipe_tables.py``) and ``data.py`` open what is given, ``measured.py``
reads the scenes once, ``planning.py`` makes the plan by which ``geoseg.training`` trains, ``validate.py`` judges the network,
``report.py`` writes its figures.
"""
