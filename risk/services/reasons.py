"""Why somebody did something: kept with their name, so it has to say something."""

from __future__ import annotations

from django.core.exceptions import ValidationError


def reason_clean(reason: str, *, most: int, required: bool = True) -> str:
    """Return a reason without surrounding space; raises ValidationError on the field ``reason``.

    ``most`` is the number of characters its column holds.
    """
    clean = " ".join(reason.split())
    if required and not clean:
        raise ValidationError({"reason": "Say why in a few words: it is kept with your name."})
    if len(clean) > most:
        raise ValidationError({"reason": f"At most {most} characters (given {len(clean)})."})
    if not clean.isprintable():
        raise ValidationError({"reason": "May not contain unprintable characters."})
    return clean
