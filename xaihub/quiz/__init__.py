"""Forward simulation: do people guess what a model answers, and does an explanation help them? How trust is measured.

After HIVE (Kim et al., 2022, arXiv:2112.03184) and Nguyen et al., 2021 (arXiv:2105.14944): the score of an explanation
is not how it looks but whether people who see it know better when the model is right and when it is not.

pool.py       the pictures a quiz can ask about, with what the classifier says of them
asking.py     a round of questions, by lot and balanced, and what is shown of one before the guess
answers.py    one answer, with nothing of the person in it
figures.py    answers -> accuracy, calibration and over-trust, with and without explanations
storing.py    answers in parquet, one file a round
"""

from xaihub.quiz.answers import Answer
from xaihub.quiz.asking import SHOWN, Asked, Shown, asked_about, questions, shown_for
from xaihub.quiz.figures import Figures, figures, in_words
from xaihub.quiz.pool import Pool, pool_of, with_small_pets
from xaihub.quiz.storing import card, read_answers, write_answers

__all__ = [
    "SHOWN", "Answer", "Asked", "Figures", "Pool", "Shown", "asked_about", "card", "figures", "in_words", "pool_of",
    "questions", "read_answers", "shown_for", "with_small_pets", "write_answers",
]  # fmt: skip
