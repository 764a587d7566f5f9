"""From files to files: what the commands and flows do, in the order of a run.

``api`` has the verbs as functions, for ``import geoseg``; ``cli`` the commands.
``config`` settings; ``files`` what is written whole or not at all; ``plan`` what a run will do; ``infer`` chunks by workers;
``join`` seams and objects; ``vectorize`` and ``stitch`` polygons and rasters; ``publish`` what a run leaves; ``segment`` one
scene or many. Beside them the products: ``changes``, ``damage``, ``mosaic``, ``watch``,
``verify``; what reads results: ``deliver``,
``evaluate``, ``sample``, ``summarize``, ``screen``; and what makes models: ``train``, ``calibrate``, ``chips``. In most, ``run``
is the way in.
"""
