"""The page to play with, ``captum-ib app``: pictures and words in, maps in bits out.

``offers`` holds the models and what each admits, ``uploads`` reads files from strangers, ``asking``
answers a question, ``results`` keeps files for download, ``page`` joins them to what happens when
the page is used; none of them knows a web framework. ``cards`` and ``style`` are the looks,
``layout`` Gradio's components, ``server`` what stands around them.
"""
