"""The page to play with, ``captum-ib app``: pictures and words in, maps in bits out.

``offers`` holds the models and what each admits, ``uploads`` reads files from strangers, ``asking``
answers a question, ``results`` keeps files for download; none of them knows a web framework.
``cards`` and ``style`` are the looks, ``page`` the Gradio page, ``server`` what stands around it.
"""
