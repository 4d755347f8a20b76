"""The words of docs/PROTOTYPES.md around its figures."""
# ruff: noqa: E501  rows of its tables are one line each

__all__ = ["TEXT"]

TEXT = """# Prototypes that work

"It is a cat because this looks like that": classifiers whose answer is a sum of points for places of training pictures
that were recognised, and what such answers are worth. Every figure here is written by one command,

```bash
python -m benchmarks.prototypes --to docs/PROTOTYPES.md
```

last on {today} ({machines}).
It reads pictures and classifiers from a folder `--shared`; the paper pets are drawn.
`--only cats` measures one part; results are kept under the cache folder, so a run that was stopped goes on where it was.
{older}
## Two of a kind

| | what it is | made by | within |
|---|---|---|---|
| **PrototypeHead** | patches of real pictures put on a classifier that stays as it is, and fitted to what it says: an explanation of it. Or fitted to labels: a classifier of its own | `xaihub.fit_prototypes(classifier, pictures)`, the Prototypes page, `scripts/train_protopnet.py --kind head` | seconds |
| **ProtoPNet** | a copy of the classifier trained together with its prototypes (Chen et al., 2019), our way | `scripts/train_protopnet.py --kind protopnet` | minutes |
| ProtoPNet, as published | the same with the settings of the paper and its code, for comparison | `… --recipe published` | minutes |

All three are the same kind of object afterwards, stored in one format, explained and checked by the same code.

## What was aimed at, and what was reached

{goals}

"Behind" is in points of accuracy, of the black box on the same pictures. A line with fewer than all folds is not judged.

## Beside the black box

{folds} folds, drawn by a seed, each class spread evenly, near copies kept together. In each fold the black box, the
prototypes and everything that is chosen come from the other folds; no split chooses an epoch. Figures are of all held-out
pictures together, with Wilson's 95 % interval. The **black box** is the classifier that prototypes are made from.
**Different sources**: from how many different pictures the prototypes of a class were taken, the least of any class and
fold. **Count**: their weight is above zero. **Seconds** are for one fold, beyond one pass of the network over its
pictures. The interval is about these pictures; it does not say what another draw of the folds would give.

{compared}

## Where the truth is known

{pets}

## Where in a picture a prototype fires

A similarity map has one value a cell, and a cell of a late layer answers to much more of the picture than the square under
it. So whether a map is faithful is asked: its hottest parts are greyed out first, and the similarity should fall early.
The score is the area under that curve, less is better; "parts by lot" greys out at random. Asked were {asked} pictures of
each kind that no prototype comes from, each with the prototype that gives its answer most points.

{firing}

Where parts by lot do as well as a map, or better, that map says little of where: each cell answers to most of the picture.
Drawn by default is `{drawn}`; the other ways are there to choose, each with its score beside it.

## Why the original recipe fails on little data

The recipe was made for thousands of pictures that are cropped to one animal and multiplied by rotations and skews. With
two hundred pictures several things go wrong, one after the other:

- **It starts nowhere.** Prototypes begin as random points of a space in which no picture has a patch. The published
  similarity is a logarithm that is steep only next to a patch and nearly flat everywhere else, so what pulls them in is
  not the classification but the cost that asks for each picture to have *some* prototype of its class nearby. All
  prototypes of a class feel the same pull, and go the same way.
- **Nothing keeps them apart.** One good prototype satisfies that cost for a whole class; the other nine may sit beside it.
  With few pictures to be near to, several end at the same few patches, and the gallery shows one picture again and again.
- **What is judged is not what is shown.** Prototypes are points that were learned; only in the end are they moved onto
  real patches. Each move changes every similarity, so the accuracy before it belongs to a network nobody gets. Where it is
  measured before the move, or the last layer is not fitted again after it, the loss shows up later, with the user.
- **The details must be right, and nothing says when they are not.** Patches must come from the prototype's own class,
  batch norm must not take its statistics from a handful of pictures, the order of the classes must be the same wherever it
  is used. A mistake in any of these leaves a network that trains without complaint.

None of these alone explains the network with 50 % that this project began with, and its code is not there to look at. A
gallery of a few pictures was to be expected of the recipe. That most of its prototypes were of one class does not explain
an accuracy at chance: imbalance costs points, but not all of them, so there was a mistake beside it that nobody can name.

## What we do instead

- **Start at real patches.** Cells of pictures that are typical of their class (the middles of clusters) are candidates
  from the first moment. A head never leaves them, so there is no gap between what was fitted and what is shown; a
  ProtoPNet starts from that head and moves its prototypes back onto patches in the end.
- **Look in the directions that matter.** Cells are compared after whitening, with the directions made longer in which the
  black box tells its classes apart. Without that, prototypes show what varies most in pictures, such as the background.
- **Cosines.** A cosine is as steep far from a patch as close to it, and needs no scale.
- **A part may be in several places.** A picture's similarity is the mean of its few best cells, not the single best one;
  below a threshold it counts for nothing, so that "nothing here is recognised" can be said.
- **One picture, one prototype** of a class, as long as there are enough pictures; near copies are one picture.
- **A last layer with one answer.** Weights are at least zero and only for the prototype's own class: a place can speak for
  a class and never against one. That is a convex problem, solved to its end, so that the same pictures give the same
  weights.
- **Train gently.** A ProtoPNet trains the upper half of the network at a low rate, batch norm frozen, batches balanced,
  and hears beside the labels what the black box says. After each epoch it is looked at whether prototypes collapse, and
  networks are compared only after their prototypes were moved onto patches.

## How to read a scoring sheet

A sheet has a line for each prototype that was recognised, the most points first.

1. **"This"**: the place in your picture. **"looks like that"**: the patch of a training picture, boxed in the whole of it.
   Look at both: the network found them alike, and you may not.
2. **Similarity** times **weight** makes the **points**. The similarity says how much of the prototype is in your picture
   (1 is all), the weight how much that class asks for it.
3. The points of a class and its **bias** add up to its logit: the sheet is the calculation, not a story about it. What
   decides is the lead over the next class, so look at that class's points, too.
4. **Points only speak for.** A class loses because others get more. "Nothing here is recognised" means that all
   similarities stayed below the threshold: then the bias alone answers, and that is worth nothing.
5. **Switch one off** to see the answer without it. If nothing changes, it was decoration.
6. **Agreement** says how far a head stands for its black box. Where the two differ on your picture the page says so, and
   the sheet explains the head, not the black box.
7. **Alarms** stand above everything: one picture that serves many prototypes, or a class that has none.

A patch is a cell of the last map with its margin. What the cell answers to reaches further, often over most of the
picture: a prototype on the ground beside an ear can be about the ear.

## Settings

As `scripts/train_protopnet.py` has them by default, and with `--recipe published`. On CIFAR-10, on the
paper pets and for the maps of where prototypes fire, the head is `xaihub.fit_prototypes`' own, as on the Prototypes page.

{settings}
"""
