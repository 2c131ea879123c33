"""A column that rich does not have."""

from rich.progress import ProgressColumn, Task
from rich.text import Text


class ImagesPerSecond(ProgressColumn):
    """The recent pace."""

    def render(self, task: Task) -> Text:
        """Blank until there is one."""
        pace = task.finished_speed or task.speed
        return Text(f"{pace:.1f} images/s" if pace else "")
