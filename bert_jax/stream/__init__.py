"""The batch at a step, as a pure function of (token store, config, step).

Only `pipeline` imports TensorFlow; everything else is numpy and can be called anywhere.
"""
