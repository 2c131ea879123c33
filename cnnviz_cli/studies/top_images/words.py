"""What the files of top images are called, and what their captions say."""

UNIT, SQUARES, PAGE = "unit", "patches", "units"
"""What the sheet of a channel, its squares by themselves and the pages are called behind the command's name."""

SQUARES_FORMAT = "png"
"""Of squares by themselves: pages are made of them, so that nothing of them may be lost."""

SILENT = "silent in these images: nowhere is it above zero"
ZERO = "mid-grey is zero, each projection on its own scale"
AT_CEILING = "where the channel had reached its rectifier's ceiling, that counts as on"


def count_images(count: int) -> str:
    """``5 images``."""
    return f"{count} image{'s' * (count != 1)}"


def strongest_words(found: int, wanted: int, images: int) -> str:
    """How the patches of a channel were chosen: so many were found of those that were wanted."""
    if not found:
        return count_images(images)
    which = "the strongest patch" if found == 1 else f"the {found} strongest patches, each of another file,"
    return f"{which} among {count_images(images)}" + (f"; {wanted} were asked for" if found < wanted else "")
