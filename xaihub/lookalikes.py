"""What looks alike: the references that other eyes than the classifier's take for the picture."""

from xaihub.errors import HubError, ReferencesMismatchError, UnknownNameError, UnsupportedModelError
from xaihub.found import evidence_of, left_out, none_of, place_of, see
from xaihub.methods import Query, method
from xaihub.records import Evidence

__all__ = ["lookalikes"]


@method("lookalikes", needs=("target layer", "references"), title="Looks alike")
def lookalikes(query: Query) -> tuple[Evidence, ...]:
    """The references that look most like the picture among those that the classifier gives the same class.

    Searched in the first space that another network than the classifier made, or the colours alone. Where they differ
    from the twins, the classifier does not go by what people see; they carry no heatmap, for nothing of it was asked.
    """
    references = query.references
    spaces = references.spaces.values() if references is not None else ()
    looks = next((space.name for space in spaces if space.kind == "looks"), None)
    if looks is None:
        query.note(
            "lookalikes",
            "These references were embedded by the classifier alone. To see what looks alike, build them with a second"
            " embedder as well: pixels, or a network of the Hub such as facebook/dinov2-small.",
        )
        return ()
    decided, predicted = place_of(query), query.prediction.index
    try:
        place = place_of(query, looks)
    except (UnknownNameError, HubError, UnsupportedModelError, ReferencesMismatchError) as error:
        # it need not be here to search for twins
        query.note("lookalikes", f"The network that judged their looks cannot judge your picture's. {error}")
        return ()
    found = place.nearest(query.k, predicted=predicted, leave_out=left_out(query, decided, "lookalikes"))
    if not found:
        query.note("lookalikes", f"{none_of(place.references, predicted)}, so there is nothing alike to show.")
    seen = see(query, place.references, [neighbour.row for neighbour in found], "lookalikes")
    alike = place.references.space(looks).alike
    return tuple(
        evidence_of(query, place, "lookalike", neighbour, seen, None, facts={"alike": alike}) for neighbour in found
    )
