"""Scores that scikit-learn does not have: entities by conlleval's rules, answers by SQuAD's."""
